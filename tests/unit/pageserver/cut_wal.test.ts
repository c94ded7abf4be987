/** A page server's own WAL that is damaged: what a start cuts off of it, and what is told of that. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { formatLsn, type Lsn } from "../../../src/common/lsn.ts";
import { WAL_TLI, walFileName } from "../../../src/postgres/wal/page_header.ts";
import type { FaultyDisk } from "../../harness/faulty_disk.ts";
import { TINY_SEGMENT_SIZE } from "../../harness/tiny_cluster.ts";
import {
  mainTimeline,
  openTinyPageServer,
  TINY_PATHS,
  TINY_TENANT,
  tinyDisk,
  walAfter,
} from "../../harness/tiny_page_server.ts";

const RM_LOGICALMSG = 21;

/** A page server that was killed when all of its WAL was durable and none of it in layers. */
async function killed(): Promise<
  { disk: FaultyDisk; wal: string; records: readonly { lsn: Lsn }[] }
> {
  const disk = tinyDisk();
  const server = await openTinyPageServer(disk);
  await server.createTenant(TINY_TENANT);
  const timeline = await mainTimeline(server);
  const builder = walAfter(timeline);
  for (let i = 0; i < 60; i++) {
    builder.record({ rmid: RM_LOGICALMSG, info: 0, main: new Uint8Array(900).fill(1 + i) });
  }
  const from = await timeline.restartReceiving();
  await timeline.receive(from, builder.bytes.subarray(from - builder.from));
  await timeline.makeDurable();
  // Closing would flush.
  disk.failAt(1, { kind: "crash" });
  await server.close().catch(() => {});
  disk.crash();
  return {
    disk,
    wal: TINY_PATHS.timelineWal(TINY_TENANT, timeline.timelineId),
    records: builder.records,
  };
}

/** Flips a bit of the WAL at `lsn`. */
function flip(disk: FaultyDisk, dir: string, lsn: number): void {
  const name = walFileName(WAL_TLI, lsn as Lsn, TINY_SEGMENT_SIZE);
  const file = disk.openSync(`${dir}/${name}`, "write");
  const bytes = disk.readFileSync(`${dir}/${name}`);
  const at = lsn % TINY_SEGMENT_SIZE;
  file.writeSync(Uint8Array.of(bytes[at] ^ 1), 0, 1, at);
  file.closeSync();
}

describe("WAL of a page server that is damaged", () => {
  test("is kept aside when it is cut off, and told of until that is removed", async () => {
    const { disk, wal, records } = await killed();
    const hit = records[30];
    flip(disk, wal, hit.lsn + 40);
    for (const start of ["first", "next"]) {
      const server = await openTinyPageServer(disk);
      const timeline = await mainTimeline(server);
      assert.equal(timeline.position, hit.lsn, start);
      const [found, ...others] = server.scrubFindings().found;
      assert.deepEqual(others, []);
      assert.ok(found.damage.what.startsWith(`WAL from ${formatLsn(hit.lsn)} to `), found.damage.what);
      assert.equal(found.timelineId, timeline.timelineId);
      await server.close();
    }
    const kept = disk.readdirSync(wal).filter((name) => name.startsWith("cut-"));
    assert.equal(kept.length, 1);
    await disk.removeTree(`${wal}/${kept[0]}`);
    const server = await openTinyPageServer(disk);
    assert.deepEqual(server.scrubFindings().found, []);
    await server.close();
  });

  test("is no last record that a crash has cut short", async () => {
    const { disk, wal, records } = await killed();
    flip(disk, wal, records.at(-1)!.lsn + 40);
    const server = await openTinyPageServer(disk);
    assert.equal((await mainTimeline(server)).position, records.at(-1)!.lsn);
    assert.deepEqual(server.scrubFindings().found, []);
    await server.close();
  });
});
