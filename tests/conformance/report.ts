/** What the conformance suite has seen, by record type, and how it prints that. */
import type { PgVersion } from "../../src/postgres/versions/pg_version.ts";
import { recordTypeInfo, recordTypeName, RM_MAX_BUILTIN_ID, rmgrName } from "../../src/postgres/wal/rmgr.ts";

/** Of the mismatches of one type this many are described. */
const SAMPLES_PER_TYPE = 3;

/** Types that no schedule produces, and why. */
const NOT_PRODUCED: Readonly<Record<string, string>> = {
  "XLOG NOOP": "nothing in PostgreSQL writes it",
  "XLOG END_OF_RECOVERY": "written by a promotion; changes no page",
  "XLOG OVERWRITE_CONTRECORD": "needs a crash between two pages of one record; changes no page",
  "CLOG TRUNCATE": "needs a million transactions; changes no page of a relation",
  "Heap HOT_UPDATE+INIT": "can't be: the page of a HOT update has the old tuple already",
  "Gist ASSIGN_LSN": "written with wal_level = minimal only; changes no page",
};

export class TypeCounts {
  readonly #pg: PgVersion;
  readonly rmid: number;
  readonly info: number;
  records = 0;
  /** Blocks whose page after redo was compared with PostgreSQL's. */
  checked = 0;
  /** Blocks that the record restores from an image, so that there is nothing to compare. */
  restored = 0;
  /** Blocks for which the record has no image to compare with. */
  unverified = 0;
  /** Blocks that differ, or that redo failed on. */
  mismatches = 0;
  readonly samples: string[] = [];

  constructor(pg: PgVersion, rmid: number, info: number) {
    this.#pg = pg;
    this.rmid = rmid;
    this.info = info;
  }

  get name(): string {
    return `${rmgrName(this.rmid)} ${recordTypeName(this.#pg, this.rmid, this.info)}`;
  }

  mismatch(description: string): void {
    this.mismatches++;
    if (this.samples.length < SAMPLES_PER_TYPE) this.samples.push(description);
  }
}

export class Report {
  readonly #pg: PgVersion;
  /** By `rmid << 8 | info`. */
  readonly #types = new Map<number, TypeCounts>();
  /** Checks of what no record has an image of, by what they are. */
  readonly #others = new Map<string, { checked: number; mismatches: number; samples: string[] }>();

  constructor(pg: PgVersion) {
    this.#pg = pg;
  }

  type(rmid: number, xl_info: number): TypeCounts {
    const info = recordTypeInfo(rmid, xl_info);
    const key = (rmid << 8) | info;
    let counts = this.#types.get(key);
    if (counts === undefined) {
      counts = new TypeCounts(this.#pg, rmid, info);
      this.#types.set(key, counts);
    }
    return counts;
  }

  /** Counts one check of another kind; `mismatch` describes why it failed, undefined when it did not. */
  other(kind: string, mismatch: string | undefined): void {
    let counts = this.#others.get(kind);
    if (counts === undefined) {
      counts = { checked: 0, mismatches: 0, samples: [] };
      this.#others.set(kind, counts);
    }
    counts.checked++;
    if (mismatch === undefined) return;
    counts.mismatches++;
    if (counts.samples.length < SAMPLES_PER_TYPE) counts.samples.push(mismatch);
  }

  get records(): number {
    return this.#sum((counts) => counts.records);
  }

  get mismatches(): number {
    let others = 0;
    for (const counts of this.#others.values()) others += counts.mismatches;
    return this.#sum((counts) => counts.mismatches) + others;
  }

  /** Names of the built-in record types of which there was no record. */
  neverSeen(): string[] {
    const missing: string[] = [];
    for (let rmid = 0; rmid <= RM_MAX_BUILTIN_ID; rmid++) {
      const known = new Set<number>();
      for (let info = 0; info < 0x100; info += 0x10) {
        const type = recordTypeInfo(rmid, info);
        if (known.has(type) || recordTypeName(this.#pg, rmid, type).startsWith("UNKNOWN")) continue;
        known.add(type);
        if (!this.#types.has((rmid << 8) | type)) {
          missing.push(`${rmgrName(rmid)} ${recordTypeName(this.#pg, rmid, type)}`);
        }
        // One name for every info.
        if (recordTypeName(this.#pg, rmid, 0x10) === recordTypeName(this.#pg, rmid, 0)) break;
      }
    }
    return missing;
  }

  print(write: (line: string) => void): void {
    write(row("rmgr", "type", "records", "checked", "mismatches", "restored", "unverified"));
    const types = [...this.#types.values()].sort((a, b) => a.rmid - b.rmid || a.info - b.info);
    for (const type of types) {
      write(
        row(
          rmgrName(type.rmid),
          recordTypeName(this.#pg, type.rmid, type.info),
          String(type.records),
          String(type.checked),
          String(type.mismatches),
          String(type.restored),
          String(type.unverified),
        ),
      );
    }
    for (const [kind, counts] of this.#others) {
      write(row("", kind, "", String(counts.checked), String(counts.mismatches), "", ""));
    }
    for (const type of types) {
      for (const sample of type.samples) write(`${type.name}: ${sample}`);
    }
    for (const [kind, counts] of this.#others) {
      for (const sample of counts.samples) write(`${kind}: ${sample}`);
    }
    const missing = this.neverSeen();
    for (const type of missing) write(`never seen: ${type}${reason(type)}`);
  }

  #sum(value: (counts: TypeCounts) => number): number {
    let sum = 0;
    for (const counts of this.#types.values()) sum += value(counts);
    return sum;
  }
}

function reason(type: string): string {
  const why = NOT_PRODUCED[type];
  return why === undefined ? "" : ` (${why})`;
}

const WIDTHS = [18, 28, 9, 9, 10, 9, 10];

function row(...cells: string[]): string {
  return cells.map((cell, i) => i < 2 ? cell.padEnd(WIDTHS[i]) : cell.padStart(WIDTHS[i])).join(" ");
}
