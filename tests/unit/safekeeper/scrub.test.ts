import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { parseTenantId, parseTimelineId } from "../../../src/common/id.ts";
import type { Lsn } from "../../../src/common/lsn.ts";
import { SafekeeperPaths } from "../../../src/common/paths.ts";
import { newAcceptorControl } from "../../../src/consensus/acceptor.ts";
import { NULL_LOGGER } from "../../../src/process/log.ts";
import { type FoundDamage, Scrub } from "../../../src/process/scrub.ts";
import { encodeControlFile } from "../../../src/safekeeper/control_file.ts";
import { scrubItems } from "../../../src/safekeeper/scrub.ts";
import { Timelines } from "../../../src/safekeeper/timelines.ts";
import { WalStore } from "../../../src/wal_store/wal_store.ts";
import { FaultyDisk } from "../../harness/faulty_disk.ts";
import { Random } from "../../harness/random.ts";
import { WalBuilder } from "../../harness/wal_builder.ts";

const SEGMENT = 1 << 20;
const START = (SEGMENT * 2 + 8192 + 256) as Lsn;
const PATHS = new SafekeeperPaths("/safekeeper");
const NAME = { tenantId: parseTenantId("aa".repeat(16)), timelineId: parseTimelineId("bb".repeat(16)) };
const IDENTITY = { ...NAME, systemId: 7000000000000000001n, pgVersion: 15, segmentSize: SEGMENT };
const DIR = PATHS.timeline(NAME.tenantId, NAME.timelineId);
const CONTROL = PATHS.controlFile(NAME.tenantId, NAME.timelineId);
const FILE = `${DIR}/000000010000000000000002`;

/** A safekeeper with a hundred records, all but the last committed, and its scrub. */
async function safekeeper() {
  const disk = new FaultyDisk(new Random(1));
  const wal = new WalBuilder({ startLsn: START, segmentSize: SEGMENT, prev: START - 64 });
  for (let i = 0; i < 100; i++) wal.record({ main: new Uint8Array(900).fill(1 + i) });
  disk.mkdirsSync(DIR);
  const store = await WalStore.open(DIR, { segmentSize: SEGMENT, disk, startLsn: START, sync: false });
  const bytes = wal.bytes.subarray(START - wal.from);
  store.write(START, bytes, 0, bytes.length);
  await store.close();
  const control = { ...newAcceptorControl(), timelineStartLsn: START, commitLsn: wal.records[99].lsn };
  put(disk, CONTROL, encodeControlFile(IDENTITY, control));
  const timelines = new Timelines({ paths: PATHS, disk, id: 1, sync: true, logger: NULL_LOGGER });
  const items = () => scrubItems(disk, PATHS, timelines);
  const scrub = new Scrub({ items, logger: NULL_LOGGER, hint: "mend it", bytesPerS: 1 << 30 });
  return { disk, wal, timelines, scrub };
}

function put(disk: FaultyDisk, path: string, bytes: Uint8Array): void {
  const file = disk.openSync(path, "create");
  file.writeSync(bytes, 0, bytes.length, 0);
  file.closeSync();
}

function flip(disk: FaultyDisk, path: string, offset: number): void {
  const bytes = disk.readFileSync(path).slice();
  bytes[offset] ^= 1;
  put(disk, path, bytes);
}

describe("the scrub of a safekeeper", () => {
  for (const isLoaded of [false, true]) {
    test(`finds what is damaged of a timeline that is ${isLoaded ? "" : "not "}in memory`, async () => {
      const { disk, wal, timelines, scrub } = await safekeeper();
      if (isLoaded) await timelines.get(NAME);
      await scrub.pass();
      assert.equal(scrub.found.length, 0);
      const at = wal.records[40].lsn - SEGMENT * 2;
      flip(disk, FILE, at + 100);
      await scrub.pass();
      const found: readonly FoundDamage[] = scrub.found;
      const { damage, ...name } = found[0];
      assert.deepEqual(name, NAME);
      assert.ok(damage.what.startsWith(`${FILE}, offset ${at}: `), damage.what);
      assert.match(damage.hint, /^Stop the safekeeper and move the timeline's directory away/);
      flip(disk, FILE, at + 100);
      flip(disk, CONTROL, 70);
      await scrub.pass();
      assert.match(scrub.found[0].damage.what, /safekeeper\.control: checksum/);
      flip(disk, CONTROL, 70);
      await scrub.pass();
      assert.deepEqual(scrub.found, []);
      assert.equal(timelines.ifLoaded(NAME) !== undefined, isLoaded);
      await timelines.close();
    });
  }

  test("does not miss a timeline that is deleted in the middle", async () => {
    const { scrub, timelines } = await safekeeper();
    const passing = scrub.pass();
    await timelines.delete(NAME);
    await passing;
    assert.deepEqual(scrub.found, []);
    assert.deepEqual(timelines.list(), []);
  });
});
