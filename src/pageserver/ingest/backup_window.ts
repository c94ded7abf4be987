/**
 * Finds where the history of an import begins and ends, and checks that the WAL mends what a base
 * backup copied while it changed. The rules are those of recovery: src/backend/access/transam/
 * xlogrecovery.c, and docs/import_export.md.
 */
import { ZenithError } from "../../common/errors.ts";
import { formatLsn, type Lsn } from "../../common/lsn.ts";
import { type BackupLabel, parseBackupLabel } from "../../postgres/cluster/backup_label.ts";
import type { CheckPoint } from "../../postgres/cluster/checkpoint.ts";
import { FSM_FORKNUM, MAIN_FORKNUM, VISIBILITYMAP_FORKNUM } from "../../postgres/cluster/relfile.ts";
import {
  type ControlFile,
  DB_SHUTDOWNED,
  parseControlFile,
  WAL_LEVEL_MINIMAL,
} from "../../postgres/control_file.ts";
import { isInitialising } from "../../postgres/redo/reconstruct.ts";
import { isHashRecord, isVisibleRecord } from "../../postgres/redo/image_exceptions.ts";
import { MainData } from "../../postgres/wal/main_data.ts";
import { nextRecordLsn } from "../../postgres/wal/page_header.ts";
import { BKPBLOCK_FORK_MASK, type WalRecord, XLR_RMGR_INFO_MASK } from "../../postgres/wal/record.ts";
import { parseCheckpointRecord, XLOG_BACKUP_END } from "../../postgres/wal/records/xlog.ts";
import { RM_XLOG_ID } from "../../postgres/wal/rmgr.ts";
import { BlockSet } from "../content/block_set.ts";
import type { BackupWal, BackupWalEnd, BackupWalFormat } from "./backup_wal.ts";
import type { ClusterFacts } from "./base_files.ts";

/** The history that an import brings. */
export interface BackupWindow {
  readonly control: ControlFile;
  readonly format: BackupWalFormat;
  /** What the counters were at {@link baseLsn}. */
  readonly checkpoint: CheckPoint;
  /** The start of the last record before {@link baseLsn}. */
  readonly prevLsn: Lsn;
  /** WAL is applied to the files from here on. */
  readonly baseLsn: Lsn;
  /** From here on the cluster is consistent: what was copied late, or torn, is mended. */
  readonly consistentLsn: Lsn;
  /** The end of the last record. */
  readonly endLsn: Lsn;
}

/**
 * @throws {ZenithError} `corrupt_data`, `not_found`, `conflict` and `not_implemented`, each saying
 *   what is wrong with the files
 */
export async function findBackupWindow(facts: ClusterFacts, wal: BackupWal): Promise<BackupWindow> {
  const control = parseControlFile(facts.control);
  if (facts.version !== null && facts.version !== String(control.pg.major)) {
    throw new ZenithError(
      "conflict",
      `PG_VERSION says ${facts.version}, pg_control is of PostgreSQL ${control.pg.major}: they are two clusters`,
    );
  }
  if (facts.label === null) return await ofStoppedCluster(control, wal);
  return await ofBackup(control, parseBackupLabel(facts.label), wal);
}

async function ofStoppedCluster(control: ControlFile, wal: BackupWal): Promise<BackupWindow> {
  if (control.state !== DB_SHUTDOWNED) {
    throw new ZenithError("conflict", "the cluster was not shut down cleanly, and there is no backup_label", {
      hint: "take a base backup of a running cluster with pg_basebackup, or stop it and copy it then",
    });
  }
  const { checkPoint, checkPointCopy } = control;
  const format = formatOf(control, checkPointCopy.ThisTimeLineID);
  const endLsn = await wal.recordAt(format, checkPoint, (record) => record.endLsn as Lsn);
  const positions = { prevLsn: checkPoint, baseLsn: endLsn, consistentLsn: endLsn, endLsn };
  return { control, format, checkpoint: checkPointCopy, ...positions };
}

async function ofBackup(control: ControlFile, label: BackupLabel, wal: BackupWal): Promise<BackupWindow> {
  if (control.wal_level === WAL_LEVEL_MINIMAL) {
    throw new ZenithError(
      "not_implemented",
      "the cluster's wal_level is minimal: its WAL does not hold all",
      {
        hint: "set wal_level to replica or logical there, then take another base backup",
      },
    );
  }
  const format = formatOf(control, label.tli);
  const checkpoint = await wal.recordAt(format, label.checkpointLsn, parseCheckpointRecord);
  const check = new WindowCheck(control, label);
  const end = await wal.scan(format, label.startLsn, (record) => check.note(record));
  const { prevLsn, consistentLsn } = check.result(end);
  return { control, format, checkpoint, prevLsn, baseLsn: label.startLsn, consistentLsn, endLsn: end.endLsn };
}

function formatOf(control: ControlFile, tli: number): BackupWalFormat {
  return {
    pg: control.pg,
    segmentSize: control.xlog_seg_size,
    systemId: control.system_identifier,
    tli,
  };
}

/** Looks at each record of a backup's WAL once. */
class WindowCheck {
  readonly #control: ControlFile;
  readonly #label: BackupLabel;
  #prevLsn: Lsn | null = null;
  #consistentLsn: Lsn | null = null;
  /** By relation fork, the blocks of which the WAL so far has an image. */
  readonly #mended = new Map<string, BlockSet>();

  constructor(control: ControlFile, label: BackupLabel) {
    this.#control = control;
    this.#label = label;
  }

  note(record: WalRecord): void {
    this.#prevLsn ??= record.xl_prev as Lsn;
    if (this.#consistentLsn !== null) return;
    for (let i = 0; i < record.blockCount; i++) if (record.blockInUse[i] !== 0) this.#noteBlock(record, i);
    if (this.#endsWith(record)) {
      this.#consistentLsn = record.endLsn as Lsn;
      this.#mended.clear();
    }
  }

  /** A standby can't write where its backup ends. Its pg_control, copied last, says it. */
  #endsWith(record: WalRecord): boolean {
    const { fromStandby, startLsn } = this.#label;
    if (fromStandby) return record.endLsn >= this.#control.minRecoveryPoint;
    return record.xl_rmid === RM_XLOG_ID && (record.xl_info & XLR_RMGR_INFO_MASK) === XLOG_BACKUP_END &&
      new MainData(record).u64() === BigInt(startLsn);
  }

  /**
   * The copy of a block may be torn, or newer than its first record here. So that record must bring
   * the block as a whole.
   */
  #noteBlock(record: WalRecord, i: number): void {
    const fork = record.blockFlags[i] & BKPBLOCK_FORK_MASK;
    if (fork === FSM_FORKNUM) return;
    const name = `${record.spcNode[i]}/${record.dbNode[i]}/${record.relNode[i]}/${fork}`;
    let blocks = this.#mended.get(name);
    if (blocks === undefined) this.#mended.set(name, blocks = new BlockSet());
    const block = record.blkno[i];
    if (blocks.has(block)) return;
    if (isInitialising(record, i)) {
      blocks.add(block);
      return;
    }
    // These set bits, or change nothing: they have no images of such blocks, and need none.
    const isException = fork === VISIBILITYMAP_FORKNUM ||
      fork === MAIN_FORKNUM && (isVisibleRecord(record) || isHashRecord(record));
    if (isException) return;
    throw new ZenithError(
      "corrupt_data",
      `the backup can't be made consistent: the record at ${
        formatLsn(record.lsn as Lsn)
      } changes block ${block} of relation ${name}, and no image of that block precedes it`,
      { hint: "was full_page_writes off? Turn it on, then take another base backup" },
    );
  }

  /** @throws {ZenithError} `corrupt_data`, `not_found` when the WAL ends before the backup does */
  result(end: BackupWalEnd): { readonly prevLsn: Lsn; readonly consistentLsn: Lsn } {
    if (this.#prevLsn !== null && this.#consistentLsn !== null) {
      return { prevLsn: this.#prevLsn, consistentLsn: this.#consistentLsn };
    }
    const next = nextRecordLsn(end.endLsn, this.#control.xlog_seg_size);
    throw new ZenithError(
      "not_found",
      `the WAL of the backup ends at ${formatLsn(next)}, before the backup does: ${end.why}`,
      { hint: "was the backup cut short? Name the directory with the rest of its WAL by --wal" },
    );
  }
}
