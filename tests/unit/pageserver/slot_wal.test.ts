/** The WAL that replication slots need: kept, and part of a basebackup. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { describe, test } from "node:test";
import type { Lsn } from "../../../src/common/lsn.ts";
import { basebackup } from "../../../src/pageserver/service/basebackup.ts";
import { readSegmentBefore, segmentsBefore, WalHead } from "../../../src/pageserver/tenant/wal_head.ts";
import type { Timeline } from "../../../src/pageserver/timeline/timeline.ts";
import { parseWalFileName, segmentStart, walFileName } from "../../../src/postgres/wal/page_header.ts";
import { TarReader } from "../../../src/protocol/tar.ts";
import { TINY_SEGMENT_SIZE as SEGMENT } from "../../harness/tiny_cluster.ts";
import {
  mainTimeline,
  openTinyPageServer,
  TINY_TENANT,
  tinyDisk,
  walAfter,
} from "../../harness/tiny_page_server.ts";

/** @returns the WAL, from the timeline's end until now */
async function receive(timeline: Timeline, bytes: number): Promise<{ from: Lsn; wal: Uint8Array }> {
  const { lsn } = timeline.boundary(null);
  const builder = walAfter(timeline);
  while (builder.bytes.length < bytes) builder.record({ main: new Uint8Array(500).fill(7) });
  const wal = builder.bytes.slice(lsn - builder.from);
  await timeline.receive(lsn, wal);
  await timeline.makeDurable();
  return { from: lsn, wal };
}

async function walFiles(
  chunks: AsyncIterable<Uint8Array>,
): Promise<Map<string, Uint8Array>> {
  const files = new Map<string, Uint8Array>();
  let parts: Uint8Array[] = [];
  let name = "";
  const reader = new TarReader({
    begin: (entry) => {
      name = entry.name;
      parts = [];
    },
    content: (bytes) => parts.push(bytes.slice()),
    end: () => {
      if (!/^pg_wal\/[0-9A-F]{24}$/.test(name)) return;
      files.set(name.slice("pg_wal/".length), Buffer.concat(parts));
    },
  });
  for await (const chunk of chunks) reader.push(chunk);
  reader.finish();
  return files;
}

describe("the WAL of replication slots", () => {
  test("is kept until they need it no more, also when all is in layers and after a restart", async () => {
    const disk = tinyDisk();
    let server = await openTinyPageServer(disk);
    await server.createTenant(TINY_TENANT);
    let timeline = await mainTimeline(server);
    await receive(timeline, 2 * SEGMENT);
    const held = timeline.position;
    const { generation } = await timeline.slots.take();
    await timeline.slots.set({ generation, slots: "AAAA", holdLsn: held });
    const { from, wal } = await receive(timeline, 4 * SEGMENT);
    await timeline.store.flush();
    await timeline.trimWal();
    assert.equal(timeline.wal.startLsn, segmentStart(held, SEGMENT));
    await server.close();
    server = await openTinyPageServer(disk);
    timeline = await mainTimeline(server);
    await timeline.putInLayers();
    assert.equal(timeline.slots.keepFrom(timeline.position), held);

    const { timelines } = server.tenant(TINY_TENANT);
    const boundary = timeline.boundary(null);
    using head = WalHead.open(timelines, timeline, boundary.lsn);
    const before = segmentsBefore(timelines, timeline, held, boundary.lsn);
    const files = await walFiles(basebackup(timeline, boundary, head, { before }));
    for (let at = segmentStart(held, SEGMENT); at < boundary.lsn; at = (at + SEGMENT) as Lsn) {
      const content = files.get(walFileName(1, at, SEGMENT));
      assert.equal(content?.length, SEGMENT);
      const first = Math.max(at, from);
      const last = Math.min(at + SEGMENT, boundary.lsn);
      assert.deepEqual(
        content.subarray(first - at, last - at),
        Buffer.from(wal.slice(first - from, last - from)),
      );
    }
    const piece = new Uint8Array(SEGMENT / 2);
    for (const [name, content] of files) {
      const { lsn: start } = parseWalFileName(name, SEGMENT)!;
      if (start >= segmentStart(boundary.lsn, SEGMENT)) continue;
      for (const off of [0, SEGMENT / 2]) {
        readSegmentBefore(timelines, timeline, (start + off) as Lsn, piece);
        assert.deepEqual(Buffer.from(piece), Buffer.from(content.subarray(off, off + piece.length)));
      }
    }
    const read = (lsn: number) => readSegmentBefore(timelines, timeline, lsn as Lsn, piece);
    assert.throws(() => read(segmentStart(held, SEGMENT) - SEGMENT), /was removed: it begins at/);
    assert.throws(() => read(segmentStart(held, SEGMENT) + SEGMENT * 3 / 4), /not in one segment/);
    assert.throws(() => read(segmentStart(boundary.lsn, SEGMENT)), /not in one segment that is complete/);

    using again = WalHead.open(timelines, timeline, boundary.lsn);
    assert.equal((await walFiles(basebackup(timeline, boundary, again))).size, 1);

    await timeline.slots.set({ generation, slots: "AAAA", holdLsn: null });
    await timeline.trimWal();
    assert.ok(timeline.wal.startLsn > held + SEGMENT);
    await server.close();
  });

  test("begins with the timeline, whose first segment is one that Postgres can read", async () => {
    const server = await openTinyPageServer(tinyDisk());
    await server.createTenant(TINY_TENANT);
    const timeline = await mainTimeline(server);
    const { startLsn } = timeline.wal;
    await receive(timeline, 2 * SEGMENT);
    const { timelines } = server.tenant(TINY_TENANT);
    const boundary = timeline.boundary(null);
    using head = WalHead.open(timelines, timeline, boundary.lsn);
    const before = segmentsBefore(timelines, timeline, 0 as Lsn, boundary.lsn);
    const files = await walFiles(basebackup(timeline, boundary, head, { before }));
    const first = files.get(walFileName(1, startLsn, SEGMENT))!;
    const view = new DataView(first.buffer, first.byteOffset);
    assert.equal(Number(view.getBigUint64(8, true)), segmentStart(startLsn, SEGMENT));
    assert.equal(view.getBigUint64(24, true), timeline.systemIdentifier);
    await server.close();
  });
});
