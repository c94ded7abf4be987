/** The scrub of a page server that is in use. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { describe, test } from "node:test";
import type { PageServer } from "../../../src/pageserver/service/page_server.ts";
import type { Timeline } from "../../../src/pageserver/timeline/timeline.ts";
import type { FaultyDisk } from "../../harness/faulty_disk.ts";
import {
  mainTimeline,
  openTinyPageServer,
  TINY_PATHS,
  TINY_TENANT,
  tinyDisk,
} from "../../harness/tiny_page_server.ts";
import { TINY_SEGMENT_SIZE } from "../../harness/tiny_cluster.ts";
import { WalBuilder } from "../../harness/wal_builder.ts";

async function started(): Promise<{ disk: FaultyDisk; server: PageServer; timeline: Timeline }> {
  const disk = tinyDisk();
  const server = await openTinyPageServer(disk);
  await server.createTenant(TINY_TENANT);
  const timeline = await mainTimeline(server);
  await receive(timeline);
  return { disk, server, timeline };
}

/** Some two segments of WAL. */
async function receive(timeline: Timeline): Promise<void> {
  const { lsn, prev } = timeline.boundary(null);
  const { systemIdentifier: systemId } = timeline;
  const wal = new WalBuilder({ startLsn: lsn, prev, segmentSize: TINY_SEGMENT_SIZE, systemId });
  while (wal.bytes.length < 2 * TINY_SEGMENT_SIZE) wal.record({ main: new Uint8Array(500).fill(7) });
  await timeline.receive(lsn, wal.bytes.slice(lsn - wal.from));
  await timeline.makeDurable();
}

function flip(disk: FaultyDisk, path: string, at: number): void {
  const file = disk.openSync(path, "write");
  const byte = new Uint8Array(1);
  file.readSync(byte, 0, 1, at);
  byte[0] ^= 4;
  file.writeSync(byte, 0, 1, at);
  file.closeSync();
}

function filesOf(disk: FaultyDisk, directory: string, suffix: RegExp): string[] {
  return disk.readdirSync(directory).filter((name) => suffix.test(name)).map((name) => join(directory, name));
}

const whatIn = ({ scrub }: PageServer): string[] => scrub.found.map(({ damage }) => damage.what);

describe("the scrub of a page server", () => {
  test("finds nothing in what is sound, also while it is written and merged", async () => {
    const { disk, server, timeline } = await started();
    const passing = server.scrub.pass();
    await receive(timeline);
    await timeline.store.flush();
    await timeline.trimWal();
    await timeline.store.compact();
    await passing;
    await server.scrub.pass();
    assert.deepEqual(whatIn(server), []);
    await server.close();
    const again = await openTinyPageServer(disk);
    // Nothing is open.
    await again.scrub.pass();
    assert.deepEqual(whatIn(again), []);
    assert.deepEqual(again.tenant(TINY_TENANT).timelines.opened(), []);
    await again.close();
  });

  test("finds a bit in a layer, in metadata and in WAL: which file, where, and what to do", async () => {
    const { disk, server, timeline } = await started();
    const directory = TINY_PATHS.timeline(TINY_TENANT, timeline.timelineId);
    const segment = filesOf(disk, join(directory, "wal"), /^[0-9A-F]{24}$/)[1];
    flip(disk, segment, 100_000);
    await server.scrub.pass();
    const [{ damage, timelineId }] = server.scrub.found as [typeof server.scrub.found[number]];
    assert.equal(timelineId, timeline.timelineId);
    assert.ok(damage.what.startsWith(`${segment}, offset `), damage.what);
    assert.match(damage.hint, /takes the WAL from there on from a safekeeper/);
    flip(disk, segment, 100_000);

    await timeline.store.flush();
    const layers = filesOf(disk, directory, /\.layer$/);
    for (const path of layers) {
      // Nobody who has it in the cache would notice.
      flip(disk, path, 40);
      await server.scrub.pass();
      assert.ok(whatIn(server).some((what) => what.includes(path)), `${path}: ${whatIn(server)}`);
      flip(disk, path, 40);
    }
    const metadata = join(directory, "metadata");
    flip(disk, metadata, 30);
    await server.scrub.pass();
    assert.ok(whatIn(server)[0]?.includes(metadata), String(whatIn(server)));
    flip(disk, metadata, 30);
    await server.scrub.pass();
    assert.deepEqual(whatIn(server), []);
    await server.close();
  });

  test("does not miss a layer that is merged away, or a tenant that is deleted, in the middle", async () => {
    const { server, timeline } = await started();
    await timeline.store.flush();
    await receive(timeline);
    await timeline.store.flush();
    const passing = server.scrub.pass();
    await timeline.store.collectGarbage(timeline.lastRecordLsn, []);
    await passing;
    assert.deepEqual(whatIn(server), []);
    const last = server.scrub.pass();
    await server.deleteTenant(TINY_TENANT);
    await last;
    assert.deepEqual(whatIn(server), []);
    await server.close();
  });
});
