import { describe, test } from "node:test";
import assert from "node:assert/strict";
import type { Lsn } from "../../../src/common/lsn.ts";
import { findEndOfWal } from "../../../src/wal_store/find_end_of_wal.ts";
import { WalStore } from "../../../src/wal_store/wal_store.ts";
import { FaultyDisk, PowerLostError } from "../../harness/faulty_disk.ts";
import { Random, seeds } from "../../harness/random.ts";
import { lastRecord, WalBuilder } from "../../harness/wal_builder.ts";
import { V15 } from "../../../src/postgres/versions/v15.ts";

const SEGMENT = 1 << 20;
const START = (SEGMENT * 2 + 8192 * 3 + 512) as Lsn;
const ACTIONS = 14;

/** What the store should hold: whole records, one behind the other. */
interface Log {
  /** Record boundaries; the first is START. */
  boundaries: Lsn[];
  bytes: Uint8Array;
}

function endOf(log: Log): Lsn {
  return log.boundaries[log.boundaries.length - 1];
}

/** `log` and then some more records, of a content that no other call gives. */
function extended(log: Log, random: Random): Log {
  const end = endOf(log);
  const prev = lastRecord(log.boundaries, SEGMENT) ?? START - 64;
  const builder = new WalBuilder({ startLsn: end, segmentSize: SEGMENT, prev });
  const boundaries = [...log.boundaries];
  for (let i = 1 + random.int(4); i > 0; i--) {
    const length = random.oneIn(3) ? random.int(700_000) : random.int(3000);
    const main = new Uint8Array(length + 4).fill(1 + random.int(255));
    main.set(random.bytes(4));
    boundaries.push(builder.record({ main }).endLsn);
  }
  const added = builder.bytes.subarray(end - builder.from);
  const bytes = new Uint8Array(log.bytes.length + added.length);
  bytes.set(log.bytes);
  bytes.set(added, log.bytes.length);
  return { boundaries, bytes };
}

function cut(log: Log, lsn: Lsn): Log {
  return {
    boundaries: log.boundaries.filter((boundary) => boundary <= lsn),
    bytes: log.bytes.subarray(0, lsn - START),
  };
}

function open(disk: FaultyDisk): Promise<WalStore> {
  return WalStore.open("/wal", { segmentSize: SEGMENT, disk, startLsn: START });
}

/** What a crash in the middle of an action may leave: a prefix of `log` that is not shorter than `atLeast`. */
interface Expectation {
  log: Log;
  atLeast: Lsn;
}

/** Does random things until one fails; says what must be there then. */
async function live(store: WalStore, start: Expectation, random: Random): Promise<Expectation> {
  let { log, atLeast: durable } = start;
  let before = start;
  try {
    for (let i = 0; i < ACTIONS; i++) {
      before = { log, atLeast: durable };
      switch (random.int(8)) {
        case 0: {
          const lsn = log.boundaries[random.int(log.boundaries.length)];
          if (lsn < store.startLsn) break;
          // While it goes on, everything from the cut to the old end may be there.
          before = { log, atLeast: Math.min(durable, lsn) as Lsn };
          await store.truncate(lsn);
          log = cut(log, lsn);
          durable = lsn;
          break;
        }
        case 1: {
          await store.removeBefore(durable);
          break;
        }
        case 2:
        case 3: {
          durable = await store.sync();
          break;
        }
        default: {
          const longer = extended(log, random);
          before = { log: longer, atLeast: durable };
          const len = longer.bytes.length - log.bytes.length;
          store.write(store.writtenLsn, longer.bytes, log.bytes.length, len);
          log = longer;
        }
      }
    }
    return { log, atLeast: durable };
  } catch (error) {
    if (!(error instanceof PowerLostError || causedByPowerLoss(error))) throw error;
    return before;
  }
}

function causedByPowerLoss(error: unknown): boolean {
  return error instanceof Error && error.cause instanceof PowerLostError;
}

async function check(store: WalStore, expected: Expectation): Promise<Lsn> {
  const from = expected.log.boundaries.find((boundary) => boundary >= store.startLsn);
  assert.ok(from !== undefined && from <= expected.atLeast, "nothing durable was trimmed");
  const end = await findEndOfWal(V15, store, from);
  assert.ok(expected.log.boundaries.includes(end), `the end ${end} is a record boundary of what was written`);
  assert.ok(end >= expected.atLeast, `the end ${end} is not below what was durable, ${expected.atLeast}`);
  const found = new Uint8Array(end - from);
  assert.equal(store.read(from, found, 0, found.length), found.length);
  assert.ok(
    Buffer.from(found).equals(expected.log.bytes.subarray(from - START, end - START)),
    "the WAL is what was written",
  );
  return end;
}

describe("WalStore without power", () => {
  for (const seed of seeds(60)) {
    test(`leaves a prefix of what was written, with all that was durable (ZENITH_SEED=${seed})`, async () => {
      const random = new Random(seed);
      const disk = new FaultyDisk(random);
      let expected: Expectation = { log: { boundaries: [START], bytes: new Uint8Array(0) }, atLeast: START };
      let store = await open(disk);
      for (let life = 0; life < 3; life++) {
        disk.failAt(1 + random.int(40), { kind: "crash" });
        expected = await live(store, expected, random);
        disk.crash();
        // A crash while it recovers changes nothing.
        if (random.oneIn(2)) {
          disk.failAt(1 + random.int(12), { kind: "crash" });
          try {
            const recovering = await open(disk);
            await recovering.truncate(await check(recovering, expected));
          } catch (error) {
            if (!(error instanceof PowerLostError || causedByPowerLoss(error))) throw error;
          }
          disk.crash();
        }
        store = await open(disk);
        const end = await check(store, expected);
        await store.truncate(end);
        expected = { log: cut(expected.log, end), atLeast: end };
      }
    });
  }

  for (const seed of seeds(60)) {
    test(`still has after a power failure what it said was durable when it was opened after a kill (ZENITH_SEED=${seed})`, async () => {
      const random = new Random(seed);
      const disk = new FaultyDisk(random);
      let expected: Expectation = { log: { boundaries: [START], bytes: new Uint8Array(0) }, atLeast: START };
      let store = await open(disk);
      for (let life = 0; life < 3; life++) {
        disk.failAt(1 + random.int(40), { kind: "crash" });
        expected = await live(store, expected, random);
        disk.kill();
        const killed = await open(disk);
        const end = await check(killed, expected);
        await killed.truncate(end);
        assert.equal(killed.syncedLsn, end);
        disk.crash();
        expected = { log: cut(expected.log, end), atLeast: end };
        store = await open(disk);
        await store.truncate(await check(store, expected));
      }
    });
  }
});
