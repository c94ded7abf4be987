import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { parseTenantId, parseTimelineId } from "../../../../src/common/id.ts";
import type { Lsn } from "../../../../src/common/lsn.ts";
import { decodeSmallFile, encodeSmallFile } from "../../../../src/common/small_file.ts";
import { parseTenantKey, TenantKeys, type WalPieceName } from "../../../../src/pageserver/remote/keys.ts";
import { INDEX_FORMAT, type Manifest, MANIFEST_FORMAT } from "../../../../src/pageserver/remote/manifest.ts";
import {
  cutInherited,
  decodeWalPiece,
  encodeWalPiece,
  inheritParts,
  walParts,
  walRuns,
} from "../../../../src/pageserver/remote/wal_piece.ts";

const TENANT = parseTenantId("a".repeat(32));
const TIMELINE = parseTimelineId("b".repeat(32));
const lsn = (value: number) => value as Lsn;
const piece = (start: number, end: number, generation: number): WalPieceName => ({
  startLsn: lsn(start),
  endLsn: lsn(end),
  generation,
});

describe("the key of an object", () => {
  test("is found again in its parts", () => {
    const keys = new TenantKeys(TENANT);
    const below = (key: string) => parseTenantKey(key.slice(keys.folder.length));
    assert.deepEqual(below(keys.generation(255)), { kind: "generation", generation: 255 });
    const version = { generation: 3, seq: 17 };
    assert.deepEqual(below(keys.manifest(version)), { kind: "manifest", version });
    assert.deepEqual(below(keys.index(TIMELINE, version)), { kind: "index", timelineId: TIMELINE, version });
    const layer = { number: 0x1234, generation: 2 };
    assert.deepEqual(below(keys.layer(TIMELINE, layer)), {
      kind: "layer",
      timelineId: TIMELINE,
      name: layer,
    });
    const wal = piece(2 ** 40, 2 ** 40 + 8, 9);
    assert.deepEqual(below(keys.wal(TIMELINE, wal)), { kind: "wal", timelineId: TIMELINE, name: wal });
  });

  test("that somebody else has made names nothing", () => {
    for (
      const key of ["", "generation/1", "manifest/x", "timelines/nobody/index-00000001-00000001", "other"]
    ) {
      assert.equal(parseTenantKey(key), null, key);
    }
  });
});

const MANIFEST: Manifest = {
  tenantId: TENANT,
  version: { generation: 2, seq: 5 },
  writtenMs: Date.UTC(2026, 10, 30),
  isDeleted: false,
  timelines: new Map([[TIMELINE, {
    index: { generation: 1, seq: 4 },
    inherited: {
      endLsn: lsn(0x16b5a50),
      spans: [
        { generation: 1, startLsn: lsn(0x1000000), endLsn: lsn(0x1200000) },
        { generation: 2, startLsn: lsn(0x1200000), endLsn: lsn(0x16b5a50) },
      ],
    },
    walFromLsn: lsn(0x1000000),
  }]]),
  files: new Map([["branches/feature%2Fx", Uint8Array.of(1, 2, 255)], ["config.toml", new Uint8Array()]]),
  garbage: [{ key: "manifest/00000001-00000001", sinceMs: Date.UTC(2026, 10, 29) }],
};

/** As it was written before manifests had `wal` lines. */
const OLD_MANIFEST = `zenith tenant manifest 2
tenant aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
version 2-5
written 2026-11-30T00:00:00.000000Z
timeline bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb 1-4 0/16B5A50 0/1000000
file config.toml 
crc32c 0682d146
`;

describe("a manifest and an index", () => {
  test("are what was written", () => {
    const encoded = encodeSmallFile(MANIFEST_FORMAT, MANIFEST);
    assert.deepEqual(decodeSmallFile(MANIFEST_FORMAT, encoded, "m"), MANIFEST);
    const index = {
      timelineId: TIMELINE,
      metadata: Uint8Array.of(7, 8),
      layers: [{ number: 1, generation: 2, sizeBytes: 3_000_000_000, crc: 0xffffffff }],
    };
    const encodedIndex = encodeSmallFile(INDEX_FORMAT, index);
    assert.deepEqual(decodeSmallFile(INDEX_FORMAT, encodedIndex, "i"), index);
  });

  test("of older versions don't say which WAL counts", () => {
    const { timelines } = decodeSmallFile(MANIFEST_FORMAT, new TextEncoder().encode(OLD_MANIFEST), "m");
    assert.deepEqual(timelines.get(TIMELINE)!.inherited, { endLsn: 0x16b5a50, spans: null });
  });

  test("are refused when a file would lie outside of the tenant", () => {
    for (const path of ["../x", "/etc/passwd", "a/../b", ".hidden", ""]) {
      const encoded = encodeSmallFile(MANIFEST_FORMAT, {
        ...MANIFEST,
        files: new Map([[path, new Uint8Array()]]),
      });
      assert.throws(() => decodeSmallFile(MANIFEST_FORMAT, encoded, "m"), { kind: "corrupt_data" }, path);
    }
  });

  test("are refused when a line has no meaning or is missing", () => {
    const odd = { ...MANIFEST_FORMAT, encode: () => ["tenant " + TENANT, "surprise 1"] };
    const short = { ...MANIFEST_FORMAT, encode: () => ["tenant " + TENANT] };
    for (
      const [format, why] of [[odd, /"surprise" has no meaning/], [short, /"version" is missing/]] as const
    ) {
      assert.throws(() => decodeSmallFile(MANIFEST_FORMAT, encodeSmallFile(format, MANIFEST), "m"), why);
    }
  });
});

describe("a piece of WAL", () => {
  const wal = new Uint8Array(100).map((_, i) => i);
  const encoded = encodeWalPiece({ startLsn: lsn(1000), segmentSize: 1 << 20, wal });

  test("is what was written", () => {
    assert.deepEqual(decodeWalPiece(encoded, piece(1000, 1100, 1), "k"), {
      startLsn: 1000,
      segmentSize: 1 << 20,
      wal,
    });
  });

  test("is refused when any byte is wrong, or its key says something else", () => {
    for (let i = 0; i < encoded.length; i++) {
      // The segment's size is not covered, and nobody reads the four bytes behind it.
      if (i >= 16 && i < 24) continue;
      const damaged = encoded.slice();
      damaged[i]! ^= 1;
      assert.throws(
        () => decodeWalPiece(damaged, piece(1000, 1100, 1), "k"),
        { kind: "corrupt_data" },
        `${i}`,
      );
    }
    assert.throws(() => decodeWalPiece(encoded, piece(1000, 1099, 1), "k"), { kind: "corrupt_data" });
    assert.throws(() => decodeWalPiece(encoded, piece(999, 1099, 1), "k"), { kind: "corrupt_data" });
  });
});

describe("pieces of WAL", () => {
  const ranges = (pieces: WalPieceName[], generation: number, inherited: number) =>
    walRuns(walParts(pieces, generation, { endLsn: lsn(inherited), spans: null })).map((run) =>
      run.map(({ piece, startLsn, endLsn }) => [startLsn, endLsn, piece.generation])
    );

  test("of one generation make up a run where nothing is missing", () => {
    assert.deepEqual(ranges([piece(20, 30, 1), piece(10, 20, 1), piece(40, 50, 1)], 1, 0), [
      [[10, 20, 1], [20, 30, 1]],
      [[40, 50, 1]],
    ]);
  });

  test("of earlier generations count up to where the manifest says", () => {
    assert.deepEqual(ranges([piece(10, 20, 1), piece(20, 30, 1), piece(25, 40, 2)], 2, 25), [
      [[10, 20, 1], [20, 25, 1], [25, 40, 2]],
    ]);
  });

  test("of later generations don't count", () => {
    assert.deepEqual(ranges([piece(10, 20, 1), piece(20, 30, 3)], 2, 100), [[[10, 20, 1]]]);
  });

  test("of earlier generations count as far as the manifest names them", () => {
    const given = [piece(10, 20, 1), piece(20, 30, 2), piece(15, 40, 3), piece(30, 50, 4)];
    const first = inheritParts(walParts(given.slice(0, 2), 2, { endLsn: lsn(10), spans: null }));
    assert.deepEqual(first, { endLsn: 30, spans: [{ generation: 2, startLsn: 20, endLsn: 30 }] });
    const spans = [
      { generation: 1, startLsn: lsn(10), endLsn: lsn(20) },
      { generation: 2, startLsn: lsn(20), endLsn: lsn(30) },
    ];
    const parts = walParts(given, 4, { endLsn: lsn(30), spans });
    const both = inheritParts(parts);
    assert.deepEqual(both, { endLsn: 50, spans: [...spans, { generation: 4, startLsn: 30, endLsn: 50 }] });
    assert.deepEqual(cutInherited(both, lsn(25)), {
      endLsn: 25,
      spans: [spans[0], { generation: 2, startLsn: 20, endLsn: 25 }],
    });
    // What was given up comes in again without them.
    const mixed = walParts(given, 4, { endLsn: lsn(30), spans: null });
    assert.ok(mixed.some(({ piece: { generation } }) => generation === 3));
  });

  test("give way to those of a later generation from where these begin", () => {
    assert.deepEqual(ranges([piece(10, 30, 1), piece(30, 40, 1), piece(20, 25, 2)], 3, 100), [
      [[10, 20, 1], [20, 25, 2]],
    ]);
  });
});
