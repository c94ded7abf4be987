import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { parseTenantId, parseTimelineId } from "../../../../src/common/id.ts";
import { INVALID_LSN, type Lsn } from "../../../../src/common/lsn.ts";
import { TenantKeys, type Version } from "../../../../src/pageserver/remote/keys.ts";
import type { Manifest } from "../../../../src/pageserver/remote/manifest.ts";
import { encodeTimelineInfo } from "../../../../src/pageserver/timeline/timeline_info.ts";
import { type UploadedIndex, UploadedTenant } from "../../../../src/pageserver/remote/uploaded_tenant.ts";

const TENANT = parseTenantId("a".repeat(32));
const TIMELINE = parseTimelineId("b".repeat(32));
const SEGMENT_BYTES = 16 << 20;

function index(version: Version, diskConsistentLsn: number): UploadedIndex {
  const userData = encodeTimelineInfo({
    ancestorId: null,
    walStartLsn: 500 as Lsn,
    pgMajor: 18,
    beginsMasked: false,
    awaitsBackup: false,
  });
  const metadata = { diskConsistentLsn, userData } as UploadedIndex["metadata"];
  return { version, metadata, index: { layers: [] } as unknown as UploadedIndex["index"] };
}

function manifestOf(version: Version): Manifest {
  const entry = { index: version, inherited: { endLsn: INVALID_LSN, spans: [] }, walFromLsn: INVALID_LSN };
  return {
    tenantId: TENANT,
    version: { generation: version.generation, seq: version.seq + 1 },
    writtenMs: 0,
    isDeleted: false,
    timelines: new Map([[TIMELINE, entry]]),
    files: new Map(),
    garbage: [],
  };
}

describe("what safekeepers may forget", () => {
  test("is in layers whose index a manifest names, not in those of one that comes after it", () => {
    const found = { manifest: null, indexes: new Map(), wal: new Map(), garbage: [], newestMs: 0 };
    const tenant = new UploadedTenant(new TenantKeys(TENANT), 1, found, 0);
    const end = () => tenant.restorableEnd(TIMELINE, SEGMENT_BYTES);
    const [first, second] = [{ generation: 1, seq: 1 }, { generation: 1, seq: 3 }];

    tenant.replaceIndex(TIMELINE, index(first, 1_000), 0);
    assert.equal(end(), INVALID_LSN);
    tenant.manifest = manifestOf(first);
    assert.equal(end(), 1_000 as Lsn);
    tenant.replaceIndex(TIMELINE, index(second, 2_000), 0);
    assert.equal(end(), INVALID_LSN);
    tenant.manifest = manifestOf(second);
    assert.equal(end(), 2_000 as Lsn);
  });
});
