/**
 * The WAL that an earlier Postgres of this compute has left behind, beyond what a quorum of
 * safekeepers has. Standbys and subscribers may have received it already, so a start goes on after
 * it if possible. It is possible if nobody else has written to the timeline since: the log of the
 * safekeepers then ends with a term of this compute, and is a prefix of this WAL.
 */
import { closeSync, existsSync, fstatSync, readFileSync, readSync } from "node:fs";
import { join } from "node:path";
import { nextTurn } from "../../common/event_loop.ts";
import { errorMessage, ioError, ZenithError } from "../../common/errors.ts";
import { ForeignDirectory, removeForeignTree } from "../../common/foreign_directory.ts";
import { parseTimelineId, type TimelineId } from "../../common/id.ts";
import type { Lsn } from "../../common/lsn.ts";
import type { ComputePaths } from "../../common/paths.ts";
import { decodeSmallFile, encodeSmallFile, type SmallFormat } from "../../common/small_file.ts";
import type { PgUser } from "../../pg_install/pg_user.ts";
import type { PgVersion } from "../../postgres/versions/pg_version.ts";
import { WalDecoder } from "../../postgres/wal/decoder.ts";
import { WalError } from "../../postgres/wal/error.ts";
import { parseWalFileName, segmentStart, walFileName } from "../../postgres/wal/page_header.ts";
import { WalRecord } from "../../postgres/wal/record.ts";
import type { Logger } from "../../process/log.ts";

/**
 * A file in `pg_wal` that says whose log this WAL continues. It lies there because it is true of
 * that directory only. Neither Postgres nor a backup tool takes notice of it.
 */
const OWNER_FILE = "zenith_wal_owner";
const OWNER_FILE_MODE = 0o600;
const OWNER_FILE_MAX_BYTES = 1 << 16;

/** Each start that fails after its election adds a term. Older ones matter less and less. */
const TERMS_MAX = 100;

const CHUNK_BYTES = 256 << 10;

/** Of which log the WAL in a directory is the continuation. */
interface WalOwner {
  readonly timeline: TimelineId;
  /**
   * If the safekeepers' log ends with one of these terms, it is a prefix of this WAL. Ascending.
   */
  readonly terms: readonly number[];
  /**
   * Since when the machine has been running. After another start of it, WAL may be missing that
   * was there. Empty when that is not known.
   */
  readonly boot: string;
}

/** How much of what the last Postgres has written is there. */
export type LeftWalState =
  /** All of it. */
  | "whole"
  /** Its beginning, at least. */
  | "part"
  | "none";

const BOOT_ID_FILE = "/proc/sys/kernel/random/boot_id";

const OWNER_FORMAT: SmallFormat<WalOwner> = {
  title: "zenith wal owner",
  encode: ({ timeline, terms, boot }) => [
    `timeline ${timeline}`,
    `terms ${terms.join(" ")}`,
    ...(boot === "" ? [] : [`boot ${boot}`]),
  ],
  decode: ([timeline = "", terms = "", third = ""]) => {
    const [, id] = /^timeline (\w+)$/.exec(timeline) ?? [];
    const [, list] = /^terms (\d{1,15}(?: \d{1,15})*)$/.exec(terms) ?? [];
    if (id === undefined || list === undefined) throw new Error("it does not name a timeline and terms");
    const [, boot = ""] = /^boot ([0-9a-f-]{1,64})$/.exec(third) ?? [];
    return { timeline: parseTimelineId(id), terms: list.split(" ").map(Number), boot };
  },
};

/** What a start does with the WAL of the Postgres before it. */
export class LeftWal {
  readonly #paths: ComputePaths;
  readonly #user: PgUser | undefined;
  readonly #log: Logger;

  constructor(paths: ComputePaths, user: PgUser | undefined, log: Logger) {
    this.#paths = paths;
    this.#user = user;
    this.#log = log;
  }

  /**
   * Moves the WAL out of the data directory, which is about to be cleared. If a start was
   * interrupted, the WAL is there already.
   *
   * @throws {ZenithError} `io`
   */
  putAside(): void {
    const { pgdata, leftWal } = this.#paths;
    if (existsSync(leftWal)) return;
    using root = ForeignDirectory.open(pgdata);
    if (root.lstat("pg_wal")?.isDirectory() !== true) return;
    {
      using wal = root.directory("pg_wal");
      if (wal.lstat(OWNER_FILE) === undefined) return;
    }
    try {
      root.moveTo("pg_wal", leftWal);
    } catch (error) {
      throw ioError("move", join(pgdata, "pg_wal"), error);
    }
  }

  /**
   * Says whether the WAL continues a log that ends with `lastTerm`. If so, it also continues the
   * log of `newTerm`, which is about to be sent the rest. If not, the WAL is removed.
   *
   * @throws {ZenithError} `io`
   */
  continues(timeline: TimelineId, lastTerm: number, newTerm: number): LeftWalState {
    const owner = this.#readOwner();
    if (owner !== undefined && owner.timeline === timeline && owner.terms.includes(lastTerm)) {
      const terms = [...owner.terms, newTerm].slice(-TERMS_MAX);
      writeOwner(this.#paths.leftWal, { ...owner, terms }, this.#user);
      return owner.boot !== "" && owner.boot === bootId() ? "whole" : "part";
    }
    this.remove();
    return "none";
  }

  #readOwner(): WalOwner | undefined {
    const { leftWal } = this.#paths;
    if (!existsSync(leftWal)) return undefined;
    try {
      using directory = ForeignDirectory.open(leftWal);
      const bytes = directory.read(OWNER_FILE, OWNER_FILE_MAX_BYTES);
      return decodeSmallFile(OWNER_FORMAT, bytes, join(leftWal, OWNER_FILE));
    } catch (error) {
      // Nobody was promised this WAL.
      this.#log.warn(`the WAL that the last Postgres has left is given up: ${errorMessage(error)}`);
      return undefined;
    }
  }

  /**
   * Finds where the WAL ends: after the last record that is whole and valid.
   *
   * @param from a record boundary
   * @returns `from` when no whole record follows
   */
  async end(pg: PgVersion, segmentSize: number, from: Lsn): Promise<Lsn> {
    const decoder = new WalDecoder({
      pg,
      startLsn: from,
      segmentSize,
      zerosAreEnd: true,
      passesOver: () => true,
    });
    const record = new WalRecord();
    let end = from;
    try {
      for (const { lsn, bytes } of this.#chunks(segmentSize, decoder.fedLsn)) {
        decoder.feed(bytes, lsn);
        while (decoder.next(record)) end = record.endLsn as Lsn;
        if (decoder.ended) break;
        await nextTurn();
      }
    } catch (error) {
      // What follows the last whole record was being written, or remains from an earlier use of the
      // file.
      if (!(error instanceof WalError)) throw error;
    }
    return end;
  }

  /** Reads [from, to) in pieces. Each is valid until the next one is requested. */
  *read(segmentSize: number, from: Lsn, to: Lsn): Generator<{ lsn: Lsn; bytes: Uint8Array }> {
    for (const { lsn, bytes } of this.#chunks(segmentSize, from)) {
      if (lsn >= to) return;
      yield { lsn, bytes: bytes.subarray(0, to - lsn) };
    }
  }

  /** Reads from `from` to the end of the last segment in the sequence. */
  *#chunks(segmentSize: number, from: Lsn): Generator<{ lsn: Lsn; bytes: Uint8Array }> {
    using directory = ForeignDirectory.open(this.#paths.leftWal);
    // What came before its own timeline was there when it started.
    const tlis = directory.names().map((name) => parseWalFileName(name, segmentSize)?.tli ?? 1);
    const tli = Math.max(1, ...tlis);
    for (let at: number = from;;) {
      const start = segmentStart(at as Lsn, segmentSize);
      const name = walFileName(tli, start, segmentSize);
      if (directory.lstat(name)?.isFile() !== true) return;
      const fd = directory.openForReading(name);
      try {
        const size = Math.min(fstatSync(fd).size, segmentSize);
        while (at < start + size) {
          const bytes = new Uint8Array(Math.min(CHUNK_BYTES, start + size - at));
          const length = readSync(fd, bytes, 0, bytes.length, at - start);
          if (length === 0) return;
          yield { lsn: at as Lsn, bytes: bytes.subarray(0, length) };
          at += length;
        }
        if (size < segmentSize) return;
      } finally {
        closeSync(fd);
      }
    }
  }

  /**
   * Says in a new data directory that its WAL continues the log of `term`, and removes the WAL of
   * the Postgres before.
   *
   * @throws {ZenithError} `io`
   */
  begin(timeline: TimelineId, term: number): void {
    const owner = { timeline, terms: [term], boot: bootId() };
    writeOwner(join(this.#paths.pgdata, "pg_wal"), owner, this.#user);
    this.remove();
  }

  remove(): void {
    removeForeignTree(this.#paths.leftWal);
  }
}

/** Returns what is another one after each start of the machine; "" when that is not known. */
function bootId(): string {
  try {
    return readFileSync(BOOT_ID_FILE, "utf8").trim();
  } catch {
    return "";
  }
}

function writeOwner(directory: string, owner: WalOwner, user: PgUser | undefined): void {
  const bytes = encodeSmallFile(OWNER_FORMAT, owner);
  try {
    using opened = ForeignDirectory.open(directory);
    opened.replaceFile(OWNER_FILE, bytes, OWNER_FILE_MODE, user);
  } catch (error) {
    throw error instanceof ZenithError ? error : ioError("write", join(directory, OWNER_FILE), error);
  }
}

/**
 * Gives up the WAL that no quorum has, after a stop on purpose.
 *
 * @throws {ZenithError} `io`
 */
export function giveUpLeftWal({ pgdata }: ComputePaths): void {
  const wal = join(pgdata, "pg_wal");
  if (!existsSync(wal)) return;
  using directory = ForeignDirectory.open(wal);
  directory.remove(OWNER_FILE);
}
