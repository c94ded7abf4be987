import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { nodeDisk } from "../../../src/common/disk.ts";
import type { Lsn } from "../../../src/common/lsn.ts";
import { BlockCache, TimelineStore } from "../../../src/pagestore/mod.ts";

test("opening a timeline removes stray layers and leaves what is not the store's own", async () => {
  const root = mkdtempSync(join(tmpdir(), "zenith-store-"));
  try {
    const directory = join(root, "timeline");
    const options = { disk: nodeDisk, nowMs: () => 0, cache: new BlockCache(1 << 20) };
    await (await TimelineStore.create(directory, { ...options, startLsn: 8 as Lsn })).close();
    mkdirSync(join(directory, "wal"));
    writeFileSync(join(directory, "wal", "000000010000000000000001"), "WAL");
    writeFileSync(join(directory, "00000009.layer"), "left by a crash");
    await (await TimelineStore.open(directory, options)).close();
    assert.equal(readFileSync(join(directory, "wal", "000000010000000000000001"), "utf8"), "WAL");
    assert.deepEqual(nodeDisk.readdirSync(directory).sort(), ["metadata", "wal"]);
  } finally {
    rmSync(root, { recursive: true });
  }
});
