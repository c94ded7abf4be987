import { type Disk, replaceFileSync } from "../../common/disk.ts";
import { ioError, ZenithError } from "../../common/errors.ts";
import { formatLsn, type Lsn, parseLsn } from "../../common/lsn.ts";
import { formatTimestamp, msOfTimestamp, parseTimestamp, timestampOfMs } from "../../common/timestamp.ts";

/** The first line of the file, with the format's version. */
const FIRST_LINE = "zenith leases 1";

/**
 * LSNs of one timeline that somebody reads at and that must therefore stay readable, each until some time. They are on disk, so
 * that a restart of the page server breaks no promise.
 */
export class Leases {
  readonly #disk: Disk;
  readonly #directory: string;
  readonly #path: string;
  /** LSN → end, in milliseconds since 1970. */
  readonly #ends: Map<Lsn, number>;

  /** @throws {ZenithError} `corrupt_data`, `io` */
  constructor(disk: Disk, directory: string, path: string) {
    this.#disk = disk;
    this.#directory = directory;
    this.#path = path;
    this.#ends = disk.statSync(path) === null ? new Map() : decode(disk.readFileSync(path), path);
  }

  /**
   * Keeps `lsn` readable for `durationMs` from now on, or as long as it is to be anyway. Durable when it returns.
   *
   * @returns when it ends, in milliseconds since 1970
   * @throws {ZenithError} `disk_full`, `io`
   */
  take(lsn: Lsn, durationMs: number, nowMs: number): number {
    const end = Math.max(this.#ends.get(lsn) ?? 0, nowMs + durationMs);
    const next = new Map(this.#ends);
    for (const [lsn, end] of next) {
      if (end <= nowMs) next.delete(lsn);
    }
    next.set(lsn, end);
    try {
      replaceFileSync(this.#disk, this.#directory, this.#path, encode(next));
    } catch (error) {
      throw ioError("write leases", this.#path, error);
    }
    this.#ends.clear();
    for (const [lsn, end] of next) this.#ends.set(lsn, end);
    return end;
  }

  /** The LSNs that are leased now, ascending. */
  active(nowMs: number): Lsn[] {
    return [...this.#ends].filter(([, end]) => end > nowMs).map(([lsn]) => lsn).sort((a, b) => a - b);
  }
}

function encode(ends: ReadonlyMap<Lsn, number>): Uint8Array {
  const lines = [...ends].map(([lsn, end]) => `${formatLsn(lsn)} ${formatTimestamp(timestampOfMs(end))}\n`);
  return new TextEncoder().encode(`${FIRST_LINE}\n${lines.join("")}`);
}

function decode(bytes: Uint8Array, path: string): Map<Lsn, number> {
  const [first, ...lines] = new TextDecoder().decode(bytes).split("\n");
  const corrupt = (found: string, cause?: unknown) =>
    new ZenithError("corrupt_data", `${path} holds "${found}", which is no lease`, { cause });
  if (first !== FIRST_LINE || lines.pop() !== "") throw corrupt(first ?? "");
  const ends = new Map<Lsn, number>();
  for (const line of lines) {
    const [lsn = "", end = ""] = line.split(" ");
    try {
      ends.set(parseLsn(lsn), msOfTimestamp(parseTimestamp(end, "none")));
    } catch (error) {
      throw corrupt(line, error);
    }
  }
  return ends;
}
