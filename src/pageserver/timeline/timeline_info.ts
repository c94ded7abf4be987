/** Encodes the page server's own part of a timeline's metadata. */
import { ZenithError } from "../../common/errors.ts";
import { parseTimelineId, type TimelineId } from "../../common/id.ts";
import { POSTGRES_MAJORS, postgresMajorsInWords } from "../../common/postgres_major.ts";
import { type Lsn, lsn } from "../../common/lsn.ts";

/** The page server's own part of a timeline's metadata. It never changes. */
export interface TimelineInfo {
  readonly ancestorId: TimelineId | null;
  /** The first byte of the timeline's own WAL. */
  readonly walStartLsn: Lsn;
  /**
   * The major version of the PostgreSQL that writes the timeline's WAL and pages. It is the
   * tenant's, and so the ancestor's too.
   */
  readonly pgMajor: number;
}

// Layout: walStartLsn u64, the major version u32, then the ancestor's 16 bytes, zeros for none. See
// docs/formats/timeline_metadata.md.
const INFO_BYTES = 28;
const PG_MAJOR = 8;
const PG_MAJOR_BYTES = 4;
const ANCESTOR_BYTES = 16;
/** Before the major version was stored, the ancestor followed walStartLsn directly. */
const INFO_BYTES_WITHOUT_MAJOR = INFO_BYTES - PG_MAJOR_BYTES;
const MAJOR_WHEN_NOT_SAID = 15;
const NO_ANCESTOR = "0".repeat(32);

export function encodeTimelineInfo(info: TimelineInfo): Uint8Array {
  const bytes = Buffer.alloc(INFO_BYTES);
  bytes.writeBigUInt64LE(BigInt(info.walStartLsn), 0);
  bytes.write(info.ancestorId ?? NO_ANCESTOR, INFO_BYTES - ANCESTOR_BYTES, "hex");
  bytes.writeUInt32LE(info.pgMajor, PG_MAJOR);
  return bytes;
}

/**
 * Returns the ancestor named at the end of a timeline's metadata, which may be damaged; null for
 * none.
 */
export function ancestorAtEnd(metadata: Uint8Array): TimelineId | null {
  if (metadata.length < INFO_BYTES_WITHOUT_MAJOR) return null;
  const ancestor = Buffer.from(metadata.slice(-ANCESTOR_BYTES)).toString("hex");
  return ancestor === NO_ANCESTOR ? null : parseTimelineId(ancestor);
}

/**
 * @throws {ZenithError} `corrupt_data` when the bytes make no sense, or name a major version that
 *   this Zenith does not run. The message names `where`
 */
export function decodeTimelineInfo(bytes: Uint8Array, where: string): TimelineInfo {
  if (bytes.length !== INFO_BYTES && bytes.length !== INFO_BYTES_WITHOUT_MAJOR) {
    throw new ZenithError(
      "corrupt_data",
      `${where}: the timeline's info has ${bytes.length} bytes, expected ${INFO_BYTES}`,
    );
  }
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  const ancestor = view.toString("hex", bytes.length - ANCESTOR_BYTES);
  const pgMajor = bytes.length === INFO_BYTES ? view.readUInt32LE(PG_MAJOR) : MAJOR_WHEN_NOT_SAID;
  if (!POSTGRES_MAJORS.includes(pgMajor)) {
    throw new ZenithError(
      "corrupt_data",
      `${where}: the timeline is of PostgreSQL ${pgMajor}, this Zenith runs ${postgresMajorsInWords()}`,
      { hint: "a newer Zenith may have made it: use that one" },
    );
  }
  return {
    walStartLsn: lsn(Number(view.readBigUInt64LE(0))),
    ancestorId: ancestor === NO_ANCESTOR ? null : parseTimelineId(ancestor),
    pgMajor,
  };
}
