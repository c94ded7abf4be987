/**
 * `global/pg_control`: the state of a cluster, its identity, and where its last checkpoint is.
 *
 * Format: ControlFileData in src/include/catalog/pg_control.h. The fields read here are at the same
 * offsets in all supported majors; the checksum is not. The catalog version tells the major.
 */
import { BLCKSZ } from "./cluster/page_layout.ts";
import { crc32c } from "../common/crc32c.ts";
import { assert } from "../common/assert.ts";
import { ZenithError } from "../common/errors.ts";
import { type Lsn, lsnFromHalves, lsnHigh, lsnLow } from "../common/lsn.ts";
import { type CheckPoint, parseCheckpoint, writeCheckpoint } from "./cluster/checkpoint.ts";
import { pgVersionOfCatalog } from "./versions/find_version.ts";
import type { PgVersion } from "./versions/pg_version.ts";

/** PG_CONTROL_FILE_SIZE: the size of the file; the rest is zeros. */
export const PG_CONTROL_FILE_SIZE = 8192;
/** Where the file is, relative to the data directory. */
export const CONTROL_FILE_PATH = "global/pg_control";

// DBState
export const DB_STARTUP = 0;
export const DB_SHUTDOWNED = 1;
export const DB_SHUTDOWNED_IN_RECOVERY = 2;
export const DB_SHUTDOWNING = 3;
export const DB_IN_CRASH_RECOVERY = 4;
export const DB_IN_ARCHIVE_RECOVERY = 5;
export const DB_IN_PRODUCTION = 6;

// WalLevel, src/include/access/xlog.h
export const WAL_LEVEL_MINIMAL = 0;
export const WAL_LEVEL_REPLICA = 1;
export const WAL_LEVEL_LOGICAL = 2;

export interface ControlFile {
  /** The major of the cluster. */
  pg: PgVersion;
  system_identifier: bigint;
  /** DB_*. */
  state: number;
  /** Seconds since the Unix epoch. */
  time: number;
  checkPoint: Lsn;
  checkPointCopy: CheckPoint;
  /** A counter, not a position in the WAL. */
  unloggedLSN: Lsn;
  minRecoveryPoint: Lsn;
  minRecoveryPointTLI: number;
  backupStartPoint: Lsn;
  backupEndPoint: Lsn;
  backupEndRequired: boolean;
  /** WAL_LEVEL_*. */
  wal_level: number;
  wal_log_hints: boolean;
  MaxConnections: number;
  max_worker_processes: number;
  max_wal_senders: number;
  max_prepared_xacts: number;
  max_locks_per_xact: number;
  track_commit_timestamp: boolean;
  blcksz: number;
  relseg_size: number;
  xlog_blcksz: number;
  xlog_seg_size: number;
  /** 0: data pages have no checksums. */
  data_checksum_version: number;
}

/**
 * What {@link encodeControlFile} can change; the rest belongs to the cluster for its whole life.
 */
export type ControlFileChanges = Partial<
  Omit<
    ControlFile,
    "pg" | "blcksz" | "relseg_size" | "xlog_blcksz" | "xlog_seg_size" | "data_checksum_version"
  >
>;

// Offsets in ControlFileData.
const SYSTEM_IDENTIFIER = 0;
const CONTROL_VERSION = 8;
const CATALOG_VERSION = 12;
const STATE = 16;
const TIME = 24;
const CHECK_POINT = 32;
const CHECK_POINT_COPY = 40;
const UNLOGGED_LSN = 128;
const MIN_RECOVERY_POINT = 136;
const MIN_RECOVERY_POINT_TLI = 144;
const BACKUP_START_POINT = 152;
const BACKUP_END_POINT = 160;
const BACKUP_END_REQUIRED = 168;
const WAL_LEVEL = 172;
const WAL_LOG_HINTS = 176;
const MAX_CONNECTIONS = 180;
const MAX_WORKER_PROCESSES = 184;
const MAX_WAL_SENDERS = 188;
const MAX_PREPARED_XACTS = 192;
const MAX_LOCKS_PER_XACT = 196;
const TRACK_COMMIT_TIMESTAMP = 200;
const MAX_ALIGN = 204;
const FLOAT_FORMAT = 208;
const BLCKSZ_AT = 216;
const RELSEG_SIZE_AT = 220;
const XLOG_BLCKSZ_AT = 224;
const XLOG_SEG_SIZE_AT = 228;
const DATA_CHECKSUM_VERSION = 252;

/** FLOATFORMAT_VALUE. */
const FLOATFORMAT_VALUE = 1234567.0;
const MAXIMUM_ALIGNOF = 8;
const CRC_SIZE = 4;
const TWO_POW_32 = 0x1_0000_0000;

/**
 * Checks and reads a control file.
 *
 * @param bytes the file, at least up to its checksum
 * @throws {ZenithError} `corrupt_data` when it is short, of another architecture, or fails its
 *   checksum; `not_implemented` when it is of a major that is not supported
 */
export function parseControlFile(bytes: Uint8Array): ControlFile {
  const pg = controlFileVersion(bytes);
  const crcOffset = pg.controlCrcOffset;
  if (bytes.length < crcOffset + CRC_SIZE) throw tooShort(bytes);
  const view = new DataView(bytes.buffer, bytes.byteOffset, crcOffset + CRC_SIZE);
  const stored = view.getUint32(crcOffset, true);
  const computed = crc32c(bytes, 0, crcOffset);
  if (stored !== computed) {
    throw corrupt(`checksum is 0x${computed.toString(16)}, the file says 0x${stored.toString(16)}`);
  }
  if (
    view.getUint32(MAX_ALIGN, true) !== MAXIMUM_ALIGNOF ||
    view.getFloat64(FLOAT_FORMAT, true) !== FLOATFORMAT_VALUE ||
    view.getUint32(BLCKSZ_AT, true) !== BLCKSZ || view.getUint32(XLOG_BLCKSZ_AT, true) !== BLCKSZ
  ) {
    throw corrupt("it is of another architecture, or of a build with other block sizes");
  }
  const u32 = (at: number) => view.getUint32(at, true);
  const bool = (at: number) => view.getUint8(at) !== 0;
  const position = (at: number) => lsnFromHalves(u32(at + 4), u32(at));
  return {
    pg,
    system_identifier: view.getBigUint64(SYSTEM_IDENTIFIER, true),
    state: u32(STATE),
    time: view.getInt32(TIME + 4, true) * TWO_POW_32 + u32(TIME),
    checkPoint: position(CHECK_POINT),
    checkPointCopy: parseCheckpoint(bytes, CHECK_POINT_COPY),
    unloggedLSN: position(UNLOGGED_LSN),
    minRecoveryPoint: position(MIN_RECOVERY_POINT),
    minRecoveryPointTLI: u32(MIN_RECOVERY_POINT_TLI),
    backupStartPoint: position(BACKUP_START_POINT),
    backupEndPoint: position(BACKUP_END_POINT),
    backupEndRequired: bool(BACKUP_END_REQUIRED),
    wal_level: u32(WAL_LEVEL),
    wal_log_hints: bool(WAL_LOG_HINTS),
    MaxConnections: u32(MAX_CONNECTIONS),
    max_worker_processes: u32(MAX_WORKER_PROCESSES),
    max_wal_senders: u32(MAX_WAL_SENDERS),
    max_prepared_xacts: u32(MAX_PREPARED_XACTS),
    max_locks_per_xact: u32(MAX_LOCKS_PER_XACT),
    track_commit_timestamp: bool(TRACK_COMMIT_TIMESTAMP),
    blcksz: u32(BLCKSZ_AT),
    relseg_size: u32(RELSEG_SIZE_AT),
    xlog_blcksz: u32(XLOG_BLCKSZ_AT),
    xlog_seg_size: u32(XLOG_SEG_SIZE_AT),
    data_checksum_version: u32(DATA_CHECKSUM_VERSION),
  };
}

/**
 * A copy of a control file with some fields changed and the checksum renewed: 8192 bytes, as they
 * go to disk.
 *
 * @param original a whole valid control file of the same cluster; fields that we don't know about
 *   are kept
 * @throws {ZenithError} `corrupt_data` as {@link parseControlFile}
 */
export function encodeControlFile(original: Uint8Array, changes: ControlFileChanges): Uint8Array {
  const fields = { ...parseControlFile(original), ...changes };
  assert(Number.isSafeInteger(fields.time), "the time is in whole seconds");
  const crcOffset = fields.pg.controlCrcOffset;
  const bytes = new Uint8Array(PG_CONTROL_FILE_SIZE);
  bytes.set(original.subarray(0, crcOffset));
  const view = new DataView(bytes.buffer);
  const setU32 = (at: number, value: number) => view.setUint32(at, value, true);
  const setBool = (at: number, value: boolean) => view.setUint8(at, value ? 1 : 0);
  const setLsn = (at: number, value: Lsn) => {
    setU32(at, lsnLow(value));
    setU32(at + 4, lsnHigh(value));
  };
  view.setBigUint64(SYSTEM_IDENTIFIER, fields.system_identifier, true);
  setU32(STATE, fields.state);
  setU32(TIME, fields.time);
  setU32(TIME + 4, Math.floor(fields.time / TWO_POW_32));
  setLsn(CHECK_POINT, fields.checkPoint);
  writeCheckpoint(fields.checkPointCopy, bytes, CHECK_POINT_COPY);
  setLsn(UNLOGGED_LSN, fields.unloggedLSN);
  setLsn(MIN_RECOVERY_POINT, fields.minRecoveryPoint);
  setU32(MIN_RECOVERY_POINT_TLI, fields.minRecoveryPointTLI);
  setLsn(BACKUP_START_POINT, fields.backupStartPoint);
  setLsn(BACKUP_END_POINT, fields.backupEndPoint);
  setBool(BACKUP_END_REQUIRED, fields.backupEndRequired);
  setU32(WAL_LEVEL, fields.wal_level);
  setBool(WAL_LOG_HINTS, fields.wal_log_hints);
  setU32(MAX_CONNECTIONS, fields.MaxConnections);
  setU32(MAX_WORKER_PROCESSES, fields.max_worker_processes);
  setU32(MAX_WAL_SENDERS, fields.max_wal_senders);
  setU32(MAX_PREPARED_XACTS, fields.max_prepared_xacts);
  setU32(MAX_LOCKS_PER_XACT, fields.max_locks_per_xact);
  setBool(TRACK_COMMIT_TIMESTAMP, fields.track_commit_timestamp);
  setU32(crcOffset, crc32c(bytes, 0, crcOffset));
  return bytes;
}

/** The major that the file claims. */
function controlFileVersion(bytes: Uint8Array): PgVersion {
  if (bytes.length < STATE) throw tooShort(bytes);
  const view = new DataView(bytes.buffer, bytes.byteOffset, STATE);
  const catalogVersion = view.getUint32(CATALOG_VERSION, true);
  const version = view.getUint32(CONTROL_VERSION, true);
  const pg = pgVersionOfCatalog(catalogVersion);
  if (version !== pg.controlVersion) {
    throw corrupt(`its version is ${version}, expected ${pg.controlVersion} of PostgreSQL ${pg.major}`);
  }
  return pg;
}

function tooShort(bytes: Uint8Array): ZenithError {
  return corrupt(`it has ${bytes.length} bytes, expected ${PG_CONTROL_FILE_SIZE}`);
}

function corrupt(problem: string): ZenithError {
  return new ZenithError("corrupt_data", `invalid control file: ${problem}`);
}
