/**
 * Damages real records and pages, and applies them: redo may refuse, or make a wrong page, but must come to an end, write nowhere but
 * to the page and its scratch memory, and throw nothing but an error about the data. `--damage` of the conformance suite.
 */
import { errorMessage } from "../../src/common/errors.ts";
import { RedoError } from "../../src/postgres/redo/page/errors.ts";
import { applyRecordTo, type BlockTarget, startPage } from "../../src/postgres/redo/reconstruct.ts";
import { RECORD, W8 } from "../../src/postgres/redo/page/workspace.ts";
import { WalError } from "../../src/postgres/wal/error.ts";
import type { WalRecord } from "../../src/postgres/wal/record.ts";
import type { PgVersion } from "../../src/postgres/versions/pg_version.ts";
import { recordTypeName, rmgrName } from "../../src/postgres/wal/rmgr.ts";
import { cutRecord } from "../../src/postgres/wal/cut_record.ts";
import { Random } from "../harness/random.ts";

const SAMPLES_PER_TYPE = 40;
/** Longer than any one application of a record may take. */
const SLOW_MS = 500;

interface Sample {
  type: string;
  target: BlockTarget;
  base: Uint8Array;
  record: Uint8Array;
  endLsn: number;
}

/** Collects real records of every type, cut down to the block that they are applied to, with the pages before. */
export class DamageSamples {
  readonly #pg: PgVersion;
  readonly #byType = new Map<string, Sample[]>();
  readonly #random = new Random(1);

  constructor(pg: PgVersion) {
    this.#pg = pg;
  }

  /** An observer of a {@link Checker}. */
  observe(rec: WalRecord, i: number, target: BlockTarget, before: Uint8Array): void {
    const type = `${rmgrName(rec.xl_rmid)} ${recordTypeName(this.#pg, rec.xl_rmid, rec.xl_info)} block ${i}`;
    const samples = this.#byType.get(type) ?? [];
    this.#byType.set(type, samples);
    if (samples.length === SAMPLES_PER_TYPE && !this.#random.oneIn(100)) return;
    const cut = new Uint8Array(rec.xl_tot_len);
    const record = cut.slice(0, cutRecord(rec, i, cut, 0));
    const at = samples.length < SAMPLES_PER_TYPE ? samples.length : this.#random.int(SAMPLES_PER_TYPE);
    samples[at] = { type, target, base: before.slice(), record, endLsn: rec.endLsn };
  }

  /** @throws {Error} that names the seed, when redo does what it must not */
  applyDamaged(seconds: number, seed: number): void {
    applyDamaged(this.#pg, [...this.#byType.values()].flat(), seconds, seed);
  }
}

/** A copy with some bytes changed, none in front of `from`. */
function damaged(random: Random, bytes: Uint8Array, from: number): Uint8Array {
  const copy = bytes.slice();
  for (let i = 1 + random.int(4); i > 0; i--) {
    const at = from + random.int(copy.length - from);
    const how = random.int(4);
    if (how === 0) copy[at] = random.int(256);
    else if (how === 1) copy[at] ^= 1 << random.int(8);
    else if (how === 2) copy[at] = random.oneIn(2) ? 0 : 0xff;
    else copy[at] = copy[at] + (random.oneIn(2) ? 1 : -1);
  }
  return copy;
}

function applyDamaged(pg: PgVersion, samples: readonly Sample[], seconds: number, seed: number): void {
  const random = new Random(seed);
  const guarded = [RECORD + (64 << 10), RECORD + (128 << 10)] as const;
  W8.fill(0xa5, ...guarded);
  const end = performance.now() + 1000 * seconds;
  let applied = 0;
  let refused = 0;
  const xlogHeader = 24;
  while (performance.now() < end) {
    const round = applied + refused;
    const sample = samples[random.int(samples.length)];
    const record = random.oneIn(3) ? sample.record : damaged(random, sample.record, xlogHeader);
    const base = random.oneIn(2) ? sample.base : damagedPage(random, sample.base);
    const started = performance.now();
    try {
      startPage(base);
      applyRecordTo(pg, sample.target, record, 0, record.length, sample.endLsn);
      applied++;
    } catch (error) {
      if (!(error instanceof RedoError) && !(error instanceof WalError)) {
        throw new Error(`seed ${seed}, round ${round}, ${sample.type}: ${errorMessage(error)}`, {
          cause: error,
        });
      }
      refused++;
    }
    const took = performance.now() - started;
    const what = `seed ${seed}, round ${round}, ${sample.type}`;
    if (took > SLOW_MS) throw new Error(`${what}: took ${took} ms`);
    if (!Buffer.from(record).equals(W8.subarray(RECORD, RECORD + record.length))) {
      throw new Error(`${what}: the record was written to`);
    }
  }
  if (W8.subarray(...guarded).some((byte) => byte !== 0xa5)) {
    throw new Error("memory behind the record was written to");
  }
  console.log(`${applied + refused} damaged records: ${applied} applied, ${refused} refused; seed ${seed}`);
}

/** Damage anywhere, or where it counts: in the special space, or in the header and the first line pointers. */
function damagedPage(random: Random, page: Uint8Array): Uint8Array {
  const copy = damaged(random, page, random.oneIn(2) ? page.length - 32 : 0);
  if (random.oneIn(2)) copy[random.int(48)] = random.int(256);
  return copy;
}
