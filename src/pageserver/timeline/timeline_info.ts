import { ZenithError } from "../../common/errors.ts";
import { parseTimelineId, type TimelineId } from "../../common/id.ts";
import { type Lsn, lsn } from "../../common/lsn.ts";

/** What the page server keeps with a timeline's metadata, for life. */
export interface TimelineInfo {
  readonly ancestorId: TimelineId | null;
  /** First byte of the timeline's own WAL. */
  readonly walStartLsn: Lsn;
}

// The bytes: walStartLsn u64, then the ancestor's 16 bytes, zeros for none. docs/formats/timeline_metadata.md
const INFO_BYTES = 24;
const ANCESTOR_BYTES = 16;
const NO_ANCESTOR = "0".repeat(32);

export function encodeTimelineInfo(info: TimelineInfo): Uint8Array {
  const bytes = Buffer.alloc(INFO_BYTES);
  bytes.writeBigUInt64LE(BigInt(info.walStartLsn), 0);
  bytes.write(info.ancestorId ?? NO_ANCESTOR, 8, "hex");
  return bytes;
}

/** The ancestor that is named at the end of a timeline's metadata, which may be damaged; null for none. */
export function ancestorAtEnd(metadata: Uint8Array): TimelineId | null {
  if (metadata.length < INFO_BYTES) return null;
  const ancestor = Buffer.from(metadata.slice(-ANCESTOR_BYTES)).toString("hex");
  return ancestor === NO_ANCESTOR ? null : parseTimelineId(ancestor);
}

/** @throws {ZenithError} `corrupt_data`, naming `where` */
export function decodeTimelineInfo(bytes: Uint8Array, where: string): TimelineInfo {
  if (bytes.length !== INFO_BYTES) {
    throw new ZenithError(
      "corrupt_data",
      `${where}: the timeline's info has ${bytes.length} bytes, expected ${INFO_BYTES}`,
    );
  }
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  const ancestor = view.toString("hex", 8);
  return {
    walStartLsn: lsn(Number(view.readBigUInt64LE(0))),
    ancestorId: ancestor === NO_ANCESTOR ? null : parseTimelineId(ancestor),
  };
}
