import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { INVALID_LSN, type Lsn } from "../../../src/common/lsn.ts";
import { pgVersion } from "../../../src/postgres/versions/find_version.ts";
import { scrubWal, type WalInUse } from "../../../src/wal_store/scrub_wal.ts";
import type { WalDamage } from "../../../src/wal_store/check_wal.ts";
import { WalStore } from "../../../src/wal_store/wal_store.ts";
import { FaultyDisk } from "../../harness/faulty_disk.ts";
import { Random } from "../../harness/random.ts";
import { WalBuilder } from "../../harness/wal_builder.ts";

const SEGMENT = 1 << 20;
const START = (SEGMENT * 2 + 8192 + 256) as Lsn;
const DIR = "/wal";

/** Six segments. */
const WAL = new WalBuilder({ startLsn: START, segmentSize: SEGMENT, prev: START - 64 });
for (let i = 0; WAL.lsn < SEGMENT * 8 - 9000; i++) {
  WAL.record({ main: new Uint8Array(i % 10 === 0 ? 70_000 : 300).fill(1 + i % 200) });
}
const BYTES = WAL.bytes.subarray(START - WAL.from);
const END = WAL.records.at(-1)!.endLsn;

interface Scenario {
  readonly disk: FaultyDisk;
  /** Of who uses the directory. */
  readonly store: WalStore;
  check(onPiece: () => Promise<void> | void, options?: Partial<WalInUse>): Promise<readonly WalDamage[]>;
}

async function scenario(...flips: Lsn[]): Promise<Scenario> {
  const disk = new FaultyDisk(new Random(1));
  const options = { segmentSize: SEGMENT, disk, startLsn: START, sync: false };
  const store = await WalStore.open(DIR, options);
  const bytes = BYTES.slice();
  for (const lsn of flips) bytes[lsn - START] ^= 4;
  store.write(START, bytes, 0, bytes.length);
  await store.sync();
  const check = async (onPiece: () => Promise<void> | void, options: Partial<WalInUse> = {}) => {
    const scrub = scrubWal({
      disk,
      dir: DIR,
      segmentSize: SEGMENT,
      timelineStartLsn: START,
      pg: pgVersion(15),
      systemId: WAL.systemId,
      through: END,
      wholeTo: END,
      ...options,
    });
    for (;;) {
      const step = await scrub.next();
      if (step.done === true) return step.value;
      assert.ok(step.value <= 128 << 10, "pieces are small");
      await onPiece();
    }
  };
  return { disk, store, check };
}

const recordAbove = (lsn: number): Lsn => WAL.records.find((record) => record.lsn > lsn)!.lsn;

describe("a scrub of WAL that is in use", () => {
  test("finds nothing in sound WAL, and what is damaged below the end that it was given", async () => {
    assert.deepEqual(await (await scenario()).check(() => {}), []);
    const hit = recordAbove(SEGMENT * 4);
    const { check } = await scenario((hit + 30) as Lsn);
    assert.deepEqual((await check(() => {})).map(({ lsn }) => lsn), [hit]);
    const before = WAL.records.findLast(({ endLsn }) => endLsn <= hit)!.endLsn;
    assert.deepEqual(await check(() => {}, { through: before, wholeTo: before }), []);
  });

  test("finds the end by itself when nobody writes there", async () => {
    const { check } = await scenario((recordAbove(SEGMENT * 4) + 30) as Lsn);
    assert.equal((await check(() => {}, { through: null, wholeTo: INVALID_LSN })).length, 1);
  });

  test("does not miss segments that are removed meanwhile, and finds what is damaged behind them", async () => {
    for (let at = 0; at < 24; at++) {
      const hit = recordAbove(SEGMENT * 6 + 5000);
      const { check, store } = await scenario((hit + 30) as Lsn);
      let pieces = 0;
      // Three at once, wherever the check is: before it, in the segment that it reads, behind.
      const damages = await check(async () => {
        if (pieces++ === at) await store.removeBefore((SEGMENT * 5 + 1) as Lsn);
      });
      assert.deepEqual(damages.map(({ lsn }) => lsn), [hit], `removed at piece ${at}`);
    }
  });

  test("gets to the end while one segment after the other goes", async () => {
    const hit = recordAbove(SEGMENT * 7 + 5000);
    const { check, store } = await scenario((hit + 30) as Lsn);
    let pieces = 0;
    const damages = await check(async () => {
      const whole = Math.min(7, 2 + Math.floor(++pieces / 5));
      await store.removeBefore((SEGMENT * whole + 1) as Lsn);
    });
    assert.deepEqual(damages.map(({ lsn }) => lsn), [hit]);
  });

  test("tells nothing of damage that has gone with its segment", async () => {
    const { check, store } = await scenario((recordAbove(SEGMENT * 3) + 30) as Lsn);
    let pieces = 0;
    const damages = await check(async () => {
      if (++pieces === 30) await store.removeBefore((SEGMENT * 5 + 1) as Lsn);
    });
    assert.deepEqual(damages, []);
  });

  test("makes no directory where there is none any more", async () => {
    const { check, disk, store } = await scenario();
    await store.close();
    await disk.removeTree(DIR);
    await assert.rejects(check(() => {}), { kind: "not_found" });
    assert.equal(disk.statSync(DIR), null);
  });
});
