/** Encodes the page server's own part of a timeline's metadata. */
import { ZenithError } from "../../common/errors.ts";
import { parseTimelineId, type TimelineId } from "../../common/id.ts";
import { POSTGRES_MAJORS, postgresMajorsInWords } from "../../common/postgres_major.ts";
import { type Lsn, lsn } from "../../common/lsn.ts";

/** The page server's own part of a timeline's metadata. */
export interface TimelineInfo {
  readonly ancestorId: TimelineId | null;
  /** The first byte of the timeline's own WAL. */
  readonly walStartLsn: Lsn;
  /**
   * The major version of the PostgreSQL that writes the timeline's WAL and pages. It is the
   * tenant's, and so the ancestor's too.
   */
  readonly pgMajor: number;
  /**
   * Whether the timeline begins at the end of a mask: nothing before its beginning can be read by
   * way of it or of the timelines that come from it.
   */
  readonly beginsMasked: boolean;
  /**
   * Whether pages of the backup that it began with are yet to be copied ({@link MountedBackup}).
   * All else here never changes.
   */
  readonly awaitsBackup: boolean;
}

// Layout: walStartLsn u64, the major version u32, flags u32, then the ancestor's 16 bytes, zeros
// for none. The flags are left out when none is set. See docs/formats/timeline_metadata.md.
const INFO_BYTES = 28;
const PG_MAJOR = 8;
const PG_MAJOR_BYTES = 4;
const FLAGS = PG_MAJOR + PG_MAJOR_BYTES;
const FLAGS_BYTES = 4;
const INFO_BYTES_WITH_FLAGS = INFO_BYTES + FLAGS_BYTES;
const BEGINS_MASKED = 1;
const AWAITS_BACKUP = 2;
const ANCESTOR_BYTES = 16;
/** Before the major version was stored, the ancestor followed walStartLsn directly. */
const INFO_BYTES_WITHOUT_MAJOR = INFO_BYTES - PG_MAJOR_BYTES;
const MAJOR_WHEN_NOT_SAID = 15;
const NO_ANCESTOR = "0".repeat(32);

export function encodeTimelineInfo(info: TimelineInfo): Uint8Array {
  const flags = (info.beginsMasked ? BEGINS_MASKED : 0) | (info.awaitsBackup ? AWAITS_BACKUP : 0);
  const bytes = Buffer.alloc(flags === 0 ? INFO_BYTES : INFO_BYTES_WITH_FLAGS);
  bytes.writeBigUInt64LE(BigInt(info.walStartLsn), 0);
  bytes.write(info.ancestorId ?? NO_ANCESTOR, bytes.length - ANCESTOR_BYTES, "hex");
  bytes.writeUInt32LE(info.pgMajor, PG_MAJOR);
  if (flags !== 0) bytes.writeUInt32LE(flags, FLAGS);
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
 * @throws {ZenithError} `corrupt_data` when the bytes make no sense, have flags that this Zenith
 *   does not know, or name a major version that it does not run. The message names `where`
 */
export function decodeTimelineInfo(bytes: Uint8Array, where: string): TimelineInfo {
  if (![INFO_BYTES_WITHOUT_MAJOR, INFO_BYTES, INFO_BYTES_WITH_FLAGS].includes(bytes.length)) {
    throw new ZenithError(
      "corrupt_data",
      `${where}: the timeline's info has ${bytes.length} bytes, expected ${INFO_BYTES}`,
    );
  }
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  const ancestor = view.toString("hex", bytes.length - ANCESTOR_BYTES);
  const pgMajor = bytes.length >= INFO_BYTES ? view.readUInt32LE(PG_MAJOR) : MAJOR_WHEN_NOT_SAID;
  const flags = bytes.length === INFO_BYTES_WITH_FLAGS ? view.readUInt32LE(FLAGS) : 0;
  if ((flags & ~(BEGINS_MASKED | AWAITS_BACKUP)) !== 0) {
    throw new ZenithError("corrupt_data", `${where}: the timeline's info has unknown flags ${flags}`, {
      hint: "a newer Zenith may have made it: use that one",
    });
  }
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
    beginsMasked: (flags & BEGINS_MASKED) !== 0,
    awaitsBackup: (flags & AWAITS_BACKUP) !== 0,
  };
}
