/** Turns a data directory that was just fetched into a standby's. */
import { chmodSync, closeSync, ftruncateSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { ioError, withIoErrors, ZenithError } from "../common/errors.ts";
import { ForeignDirectory } from "../common/foreign_directory.ts";
import { formatLsn } from "../common/lsn.ts";
import type { PgUser } from "../pg_install/pg_user.ts";
import {
  CONTROL_FILE_PATH,
  DB_IN_ARCHIVE_RECOVERY,
  encodeControlFile,
  parseControlFile,
  PG_CONTROL_FILE_SIZE,
  WAL_LEVEL_LOGICAL,
  WAL_LEVEL_REPLICA,
} from "../postgres/control_file.ts";
import { BACKUP_LABEL_FILE } from "../postgres/cluster/backup_files.ts";
import { formatBackupLabel } from "../postgres/cluster/backup_label.ts";
import { endBeforeHeader, parseWalFileName, segmentStart, walFileName } from "../postgres/wal/page_header.ts";
import type { ReplicaStart } from "./replica_start.ts";

export const STANDBY_SIGNAL = "standby.signal";
const FILE_MODE = 0o600;

/** Nobody may create anything in a directory of this mode. */
const CLOSED_MODE = 0o555;

/**
 * Makes the data directory that of a standby, which replays from the checkpoint on. It takes
 * connections once it has replayed everything up to `lsn`, because its pages are of that moment.
 *
 * @throws {ZenithError} `unavailable` when the page server no longer has the WAL from the
 *   checkpoint on; `io`
 */
export function makeStandbyFiles(
  pgdata: string,
  start: ReplicaStart,
  segmentSize: number,
  user: PgUser | undefined,
): void {
  try {
    using root = ForeignDirectory.open(pgdata);
    using global = root.directory(dirname(CONTROL_FILE_PATH));
    const control = global.read(basename(CONTROL_FILE_PATH), PG_CONTROL_FILE_SIZE);
    const tli = parseControlFile(control).checkPointCopy.ThisTimeLineID;
    cutWal(root, tli, start, segmentSize);
    const changed = standbyControlFile(control, tli, start, segmentSize);
    global.replaceFile(basename(CONTROL_FILE_PATH), changed, FILE_MODE, user);
    const write = (name: string, text: string): void =>
      root.replaceFile(name, new TextEncoder().encode(text), FILE_MODE, user);
    const { redoLsn: startLsn, checkpointLsn } = start;
    const label = { startLsn, checkpointLsn, tli, fromStandby: true };
    write(
      BACKUP_LABEL_FILE,
      formatBackupLabel(label, walFileName(tli, startLsn, segmentSize), "zenith replica"),
    );
    write(STANDBY_SIGNAL, "");
  } catch (error) {
    throw error instanceof ZenithError ? error : ioError("set up", pgdata, error);
  }
}

/**
 * Keeps replay from creating a tablespace: its location may be one at which the branch's own
 * Postgres, on the same machine, has its data. Replay fails instead, and the compute is started
 * afresh, with a tablespace of its own.
 *
 * @param pgdata complete, with its tablespaces
 * @throws {ZenithError} `io`
 */
export function closeTablespaces(pgdata: string): void {
  const directory = join(pgdata, "pg_tblspc");
  withIoErrors("close", directory, () => chmodSync(directory, CLOSED_MODE));
}

/**
 * Removes the shutdown checkpoint that every basebackup ends with. A standby would take it for the
 * end of all running transactions.
 */
function cutWal(
  root: ForeignDirectory,
  tli: number,
  { redoLsn, lsn }: ReplicaStart,
  segmentSize: number,
): void {
  using directory = root.directory("pg_wal");
  const end = endBeforeHeader(lsn, segmentSize);
  const last = segmentStart(end, segmentSize);
  const first = walFileName(tli, redoLsn, segmentSize);
  if (directory.lstat(first) === undefined) {
    throw new ZenithError(
      "unavailable",
      `the page server has no WAL from ${formatLsn(redoLsn)} on any more`,
      {
        hint: "start it again",
      },
    );
  }
  for (const name of directory.names()) {
    const segment = parseWalFileName(name, segmentSize);
    if (segment === undefined || segment.lsn < last) continue;
    if (segment.lsn > last || end === last) {
      directory.remove(name);
      continue;
    }
    const fd = directory.openFile(name);
    try {
      ftruncateSync(fd, end - last);
      ftruncateSync(fd, segmentSize);
    } finally {
      closeSync(fd);
    }
  }
}

function standbyControlFile(
  control: Uint8Array,
  tli: number,
  { checkpointLsn, lsn, settings, walLevel, trackCommitTimestamp }: ReplicaStart,
  segmentSize: number,
): Uint8Array {
  return encodeControlFile(control, {
    state: DB_IN_ARCHIVE_RECOVERY,
    checkPoint: checkpointLsn,
    minRecoveryPoint: endBeforeHeader(lsn, segmentSize),
    minRecoveryPointTLI: tli,
    wal_level: walLevel === "logical" ? WAL_LEVEL_LOGICAL : WAL_LEVEL_REPLICA,
    MaxConnections: settings.max_connections,
    max_worker_processes: settings.max_worker_processes,
    max_wal_senders: settings.max_wal_senders,
    max_prepared_xacts: settings.max_prepared_transactions,
    max_locks_per_xact: settings.max_locks_per_transaction,
    track_commit_timestamp: trackCommitTimestamp,
  });
}
