/** WAL behind what is known to be committed: what a start cuts off of it, and what is told of that. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { parseTenantId, parseTimelineId } from "../../../src/common/id.ts";
import { formatLsn, type Lsn } from "../../../src/common/lsn.ts";
import { SafekeeperPaths } from "../../../src/common/paths.ts";
import { newAcceptorControl } from "../../../src/consensus/acceptor.ts";
import { type Logger, NULL_LOGGER } from "../../../src/process/log.ts";
import { encodeControlFile } from "../../../src/safekeeper/control_file.ts";
import { cutOff } from "../../../src/safekeeper/scrub.ts";
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

const WAL = new WalBuilder({ startLsn: START, segmentSize: SEGMENT, prev: START - 64 });
for (let i = 0; WAL.lsn < SEGMENT * 4; i++) {
  WAL.record({ main: new Uint8Array(i % 10 === 0 ? 70_000 : 900).fill(1 + i % 200) });
}
const BYTES = WAL.bytes.subarray(START - WAL.from);

/** A safekeeper that was killed with these bytes, of which the first records are known to be committed. */
async function killed(
  bytes: Uint8Array,
): Promise<{ disk: FaultyDisk; open(): Promise<Lsn>; logged: string[] }> {
  const disk = new FaultyDisk(new Random(1));
  disk.mkdirsSync(DIR);
  const store = await WalStore.open(DIR, { segmentSize: SEGMENT, disk, startLsn: START, sync: false });
  store.write(START, bytes, 0, bytes.length);
  await store.close();
  const control = { ...newAcceptorControl(), timelineStartLsn: START, commitLsn: WAL.records[3].lsn };
  const content = encodeControlFile(IDENTITY, control);
  const file = disk.openSync(PATHS.controlFile(NAME.tenantId, NAME.timelineId), "create");
  file.writeSync(content, 0, content.length, 0);
  file.closeSync();
  const logged: string[] = [];
  const logger: Logger = {
    ...NULL_LOGGER,
    error: (message) => void logged.push(message),
    child: () => logger,
  };
  const open = async () => {
    const timelines = new Timelines({ paths: PATHS, disk, id: 1, sync: true, logger });
    const end = (await timelines.get(NAME)).state.flushLsn;
    await timelines.close();
    return end;
  };
  return { disk, open, logged };
}

function told(disk: FaultyDisk): string[] {
  const timelines = new Timelines({ paths: PATHS, disk, id: 1, sync: true, logger: NULL_LOGGER });
  return cutOff(disk, PATHS, timelines).map(({ damage }) => damage.what);
}

describe("WAL that is damaged above what is known to be committed", () => {
  test("is kept aside when it is cut off, and told of until that is removed", async () => {
    // A bit in a record, in a page's header, and a page that is gone.
    for (const damage of ["record", "header", "page"]) {
      const hit = WAL.records.find(({ lsn }) => lsn > SEGMENT * 3 - 100_000)!;
      const page = hit.lsn - hit.lsn % 8192 + 8192;
      const bytes = BYTES.slice();
      if (damage === "record") bytes[hit.lsn + 40 - START] ^= 1;
      else if (damage === "header") bytes[page + 8 - START] ^= 1;
      else bytes.fill(0, page - START, page + 8192 - START);
      const { disk, open, logged } = await killed(bytes);
      const end = await open();
      assert.ok(end <= page && end > START, damage);
      assert.deepEqual(logged, ["damaged WAL is cut off, with whole records behind it"], damage);
      const [what, ...others] = told(disk);
      assert.deepEqual(others, []);
      assert.ok(what!.startsWith(`WAL from ${formatLsn(end)} to `), what);
      const kept = disk.readdirSync(DIR).find((name) => name.startsWith("cut-"))!;
      const first = disk.readFileSync(`${DIR}/${kept}/000000010000000000000002`);
      assert.deepEqual([...first.subarray(START - SEGMENT * 2)], [...bytes.subarray(0, SEGMENT * 3 - START)]);
      assert.equal(await open(), end);
      assert.equal(logged.length, 1, "once");
      await disk.removeTree(`${DIR}/${kept}`);
      assert.deepEqual(told(disk), []);
    }
  });

  test("is told from a last record that a crash has cut short", async () => {
    const random = new Random(5);
    for (let round = 0; round < 30; round++) {
      const { disk, open, logged } = await killed(
        BYTES.subarray(0, 20_000 + random.int(BYTES.length - 20_000)),
      );
      await open();
      assert.deepEqual([logged, told(disk)], [[], []]);
    }
  });
});
