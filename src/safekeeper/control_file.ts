/**
 * Encodes and decodes a timeline's control file at a safekeeper: the state that the acceptor must
 * not forget. `docs/formats/safekeeper_control.md` is the specification. The file is always
 * replaced as a whole.
 */
import { Buffer } from "node:buffer";
import { crc32c } from "../common/crc32c.ts";
import { ZenithError } from "../common/errors.ts";
import { parseTenantId, parseTimelineId } from "../common/id.ts";
import { type Lsn, lsnFromHalves } from "../common/lsn.ts";
import { type AcceptorControl, NOBODY } from "../consensus/acceptor.ts";
import type { TimelineIdentity } from "../consensus/messages.ts";
import { checkTermHistory, type TermEntry } from "../consensus/term_history.ts";

/** "ZenSafek" read as eight characters. */
const CONTROL_FILE_MAGIC = "ZenSafek";
const CONTROL_FILE_VERSION = 2;
/** The previous version, which can still be read. It does not say who was elected. */
const CONTROL_FILE_VERSION_1 = 1;

// Offsets of the fixed part. All numbers are little-endian.
const MAGIC = 0;
const VERSION = 8;
const TENANT_ID = 12;
const TIMELINE_ID = 28;
const SYSTEM_ID = 44;
const PG_VERSION = 52;
const SEGMENT_SIZE = 56;
const TERM = 60;
const TIMELINE_START_LSN = 68;
const COMMIT_LSN = 76;
const BACKUP_LSN = 84;
const REMOTE_CONSISTENT_LSN = 92;
const ELECTED_ID = 100;

/** The term history: its length, then its entries. */
const HISTORY_LENGTH = 116;
const HISTORY_LENGTH_1 = 100;

const ID_BYTES = 16;
const HISTORY_ENTRY_BYTES = 16;
const HISTORY_LENGTH_BYTES = 4;
const CRC_BYTES = 4;
const TWO_POW_32 = 0x1_0000_0000;

export interface ControlFile {
  readonly identity: TimelineIdentity;
  readonly control: AcceptorControl;
}

export function encodeControlFile(identity: TimelineIdentity, control: AcceptorControl): Uint8Array {
  const { history } = control;
  const at = HISTORY_LENGTH + HISTORY_LENGTH_BYTES;
  const bytes = Buffer.alloc(at + history.length * HISTORY_ENTRY_BYTES + CRC_BYTES);
  bytes.write(CONTROL_FILE_MAGIC, MAGIC, "latin1");
  bytes.writeUInt32LE(CONTROL_FILE_VERSION, VERSION);
  bytes.write(identity.tenantId, TENANT_ID, "hex");
  bytes.write(identity.timelineId, TIMELINE_ID, "hex");
  bytes.writeBigUInt64LE(identity.systemId, SYSTEM_ID);
  bytes.writeUInt32LE(identity.pgVersion, PG_VERSION);
  bytes.writeUInt32LE(identity.segmentSize, SEGMENT_SIZE);
  putNumber(bytes, TERM, control.term);
  putNumber(bytes, TIMELINE_START_LSN, control.timelineStartLsn);
  putNumber(bytes, COMMIT_LSN, control.commitLsn);
  putNumber(bytes, BACKUP_LSN, control.backupLsn);
  putNumber(bytes, REMOTE_CONSISTENT_LSN, control.remoteConsistentLsn);
  bytes.write(control.electedId, ELECTED_ID, "hex");
  bytes.writeUInt32LE(history.length, HISTORY_LENGTH);
  let off = at;
  for (const { term, startLsn } of history) {
    putNumber(bytes, off, term);
    putNumber(bytes, off + 8, startLsn);
    off += HISTORY_ENTRY_BYTES;
  }
  bytes.writeUInt32LE(crc32c(bytes, 0, off), off);
  return bytes;
}

/**
 * @param path names the file in messages
 * @throws {ZenithError} `corrupt_data` when the bytes are damaged or of an unknown version
 */
export function decodeControlFile(content: Uint8Array, path: string): ControlFile {
  const bytes = Buffer.from(content.buffer, content.byteOffset, content.length);
  const damaged = (what: string): ZenithError =>
    new ZenithError("corrupt_data", `safekeeper control file ${path}: ${what}`);
  if (bytes.length < HISTORY_LENGTH_1 + HISTORY_LENGTH_BYTES + CRC_BYTES) {
    throw damaged(`${bytes.length} bytes are too few`);
  }
  const magic = bytes.toString("latin1", MAGIC, MAGIC + CONTROL_FILE_MAGIC.length);
  if (magic !== CONTROL_FILE_MAGIC) {
    throw damaged(`it begins with ${JSON.stringify(magic)}, expected its magic`);
  }
  const version = bytes.readUInt32LE(VERSION);
  if (version !== CONTROL_FILE_VERSION && version !== CONTROL_FILE_VERSION_1) {
    throw damaged(
      `format version ${version}, this program knows ${CONTROL_FILE_VERSION_1} and ${CONTROL_FILE_VERSION}`,
    );
  }
  const lengthAt = version === CONTROL_FILE_VERSION_1 ? HISTORY_LENGTH_1 : HISTORY_LENGTH;
  const historyAt = lengthAt + HISTORY_LENGTH_BYTES;
  if (bytes.length < historyAt + CRC_BYTES) throw damaged(`${bytes.length} bytes are too few`);
  const count = bytes.readUInt32LE(lengthAt);
  const end = historyAt + count * HISTORY_ENTRY_BYTES;
  if (bytes.length !== end + CRC_BYTES) {
    throw damaged(`${bytes.length} bytes do not fit ${count} history entries`);
  }
  const expected = bytes.readUInt32LE(end);
  const found = crc32c(bytes, 0, end);
  if (found !== expected) throw damaged(`checksum ${hex(found)}, expected ${hex(expected)}`);
  const history: TermEntry[] = [];
  for (let off = historyAt; off < end; off += HISTORY_ENTRY_BYTES) {
    history.push({ term: number(bytes, off), startLsn: number(bytes, off + 8) as Lsn });
  }
  try {
    checkTermHistory(history);
  } catch (error) {
    throw new ZenithError("corrupt_data", `safekeeper control file ${path}: bad term history`, {
      cause: error,
    });
  }
  return {
    identity: {
      tenantId: parseTenantId(bytes.toString("hex", TENANT_ID, TENANT_ID + ID_BYTES)),
      timelineId: parseTimelineId(bytes.toString("hex", TIMELINE_ID, TIMELINE_ID + ID_BYTES)),
      systemId: bytes.readBigUInt64LE(SYSTEM_ID),
      pgVersion: bytes.readUInt32LE(PG_VERSION),
      segmentSize: bytes.readUInt32LE(SEGMENT_SIZE),
    },
    control: {
      term: number(bytes, TERM),
      history,
      timelineStartLsn: number(bytes, TIMELINE_START_LSN) as Lsn,
      electedId: version === CONTROL_FILE_VERSION_1
        ? NOBODY
        : bytes.toString("hex", ELECTED_ID, ELECTED_ID + ID_BYTES),
      commitLsn: number(bytes, COMMIT_LSN) as Lsn,
      backupLsn: number(bytes, BACKUP_LSN) as Lsn,
      remoteConsistentLsn: number(bytes, REMOTE_CONSISTENT_LSN) as Lsn,
    },
  };
}

function putNumber(bytes: Buffer, off: number, value: number): void {
  bytes.writeUInt32LE(value % TWO_POW_32, off);
  bytes.writeUInt32LE(Math.floor(value / TWO_POW_32), off + 4);
}

function number(bytes: Buffer, off: number): number {
  return lsnFromHalves(bytes.readUInt32LE(off + 4), bytes.readUInt32LE(off));
}

function hex(value: number): string {
  return `0x${value.toString(16).padStart(8, "0")}`;
}
