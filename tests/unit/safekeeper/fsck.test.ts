import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { DataCheck } from "../../../src/common/data_check.ts";
import { parseTenantId, parseTimelineId } from "../../../src/common/id.ts";
import type { Lsn } from "../../../src/common/lsn.ts";
import { SafekeeperPaths } from "../../../src/common/paths.ts";
import { newAcceptorControl } from "../../../src/consensus/acceptor.ts";
import { encodeControlFile } from "../../../src/safekeeper/control_file.ts";
import { checkSafekeeperData, holdsSafekeeperTimelines } from "../../../src/safekeeper/fsck.ts";
import { WalStore } from "../../../src/wal_store/wal_store.ts";
import { FaultyDisk } from "../../harness/faulty_disk.ts";
import { Random } from "../../harness/random.ts";
import { WalBuilder } from "../../harness/wal_builder.ts";

const SEGMENT = 1 << 20;
const START = (SEGMENT * 2 + 8192 + 256) as Lsn;
const PATHS = new SafekeeperPaths("/safekeeper");
const IDENTITY = {
  tenantId: parseTenantId("aa".repeat(16)),
  timelineId: parseTimelineId("bb".repeat(16)),
  systemId: 7000000000000000001n,
  pgVersion: 15,
  segmentSize: SEGMENT,
};
const TIMELINE = PATHS.timeline(IDENTITY.tenantId, IDENTITY.timelineId);
const CONTROL = PATHS.controlFile(IDENTITY.tenantId, IDENTITY.timelineId);

/** A safekeeper with a hundred records, of which eighty are committed. */
async function safekeeper(): Promise<{ disk: FaultyDisk; wal: WalBuilder }> {
  const disk = new FaultyDisk(new Random(1));
  const wal = new WalBuilder({ startLsn: START, segmentSize: SEGMENT, prev: START - 64 });
  for (let i = 0; i < 100; i++) wal.record({ main: new Uint8Array(900).fill(1 + i) });
  const options = { segmentSize: SEGMENT, disk, startLsn: START, sync: false };
  disk.mkdirsSync(TIMELINE);
  const store = await WalStore.open(TIMELINE, options);
  const bytes = wal.bytes.subarray(START - wal.from);
  store.write(START, bytes, 0, bytes.length);
  await store.close();
  const control = {
    ...newAcceptorControl(),
    timelineStartLsn: START,
    commitLsn: wal.records[80].lsn,
  };
  put(disk, CONTROL, encodeControlFile(IDENTITY, control));
  return { disk, wal };
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

async function checked(disk: FaultyDisk, dir = PATHS.workdir): Promise<DataCheck[]> {
  return await Array.fromAsync(checkSafekeeperData(disk, dir));
}

describe("a check of a safekeeper's data", () => {
  test("finds nothing wrong with what is sound, wherever it is pointed at", async () => {
    const { disk, wal } = await safekeeper();
    for (const dir of [PATHS.workdir, PATHS.tenant(IDENTITY.tenantId), TIMELINE]) {
      assert.ok(holdsSafekeeperTimelines(disk, dir));
      const walBytes = wal.from + wal.bytes.findLastIndex((byte) => byte !== 0) + 1 - START;
      assert.deepEqual(await checked(disk, dir), [
        { path: TIMELINE, counts: null, walBytes, problems: [], strays: [] },
      ]);
    }
    assert.ok(!holdsSafekeeperTimelines(disk, "/nowhere"));
  });

  test("tells of a bit below what is committed, and above it: the control file lags behind", async () => {
    const { disk, wal } = await safekeeper();
    const segment = `${TIMELINE}/000000010000000000000002`;
    const above = wal.records[90].lsn + 100 - SEGMENT * 2;
    flip(disk, segment, above);
    assert.equal((await checked(disk))[0].problems.length, 1);
    flip(disk, segment, above);
    const at = wal.records[40].lsn - SEGMENT * 2;
    flip(disk, segment, at + 100);
    const [problem, ...others] = (await checked(disk))[0].problems;
    assert.deepEqual(others, []);
    assert.ok(problem!.startsWith(`${segment}, offset ${at}: invalid WAL at 0/`), problem);
    assert.match(
      problem!,
      /checksum mismatch.*\. Stop the safekeeper and move the timeline's directory away/,
    );
  });

  test("tells of a damaged or missing control file, and of WAL that is gone", async () => {
    const { disk } = await safekeeper();
    flip(disk, CONTROL, 80);
    assert.match(
      (await checked(disk))[0].problems[0],
      /safekeeper\.control: checksum .* Stop the safekeeper/,
    );
    disk.unlinkSync(CONTROL);
    assert.match((await checked(disk))[0].problems[0], /safekeeper\.control/);
    const second = await safekeeper();
    second.disk.unlinkSync(`${TIMELINE}/000000010000000000000002`);
    assert.match(
      (await checked(second.disk))[0].problems[0],
      /has no WAL segment, but 0\/\w+ is committed/,
    );
  });
});
