/**
 * `backup_label`: where recovery of a base backup begins. Source: build_backup_content in
 * src/backend/access/transam/xlogbackup.c.
 */
import { ZenithError } from "../../common/errors.ts";
import { formatLsn, type Lsn, parseLsn } from "../../common/lsn.ts";

export interface BackupLabel {
  /** START WAL LOCATION: the checkpoint's redo point. All WAL from here on is needed. */
  readonly startLsn: Lsn;
  /** CHECKPOINT LOCATION: where the checkpoint's record starts. */
  readonly checkpointLsn: Lsn;
  /** START TIMELINE. */
  readonly tli: number;
  /** BACKUP FROM: whether a standby made the backup. */
  readonly fromStandby: boolean;
}

/**
 * Returns the file's content. A backup that counts as one of a standby ends at the control file's
 * minimum recovery point; otherwise recovery looks for a record that says so.
 *
 * @param walFile the name of the WAL segment that `startLsn` is in
 * @param name what LABEL says
 */
export function formatBackupLabel(
  { startLsn, checkpointLsn, tli, fromStandby }: BackupLabel,
  walFile: string,
  name: string,
): string {
  const time = `${new Date().toISOString().slice(0, 19).replace("T", " ")} UTC`;
  return [
    `START WAL LOCATION: ${formatLsn(startLsn)} (file ${walFile})`,
    `CHECKPOINT LOCATION: ${formatLsn(checkpointLsn)}`,
    "BACKUP METHOD: streamed",
    `BACKUP FROM: ${fromStandby ? "standby" : "primary"}`,
    `START TIME: ${time}`,
    `LABEL: ${name}`,
    `START TIMELINE: ${tli}`,
    "",
  ].join("\n");
}

/**
 * @throws {ZenithError} `corrupt_data` when a line is missing; `not_implemented` for an incremental
 *   backup
 */
export function parseBackupLabel(bytes: Uint8Array): BackupLabel {
  const text = new TextDecoder().decode(bytes);
  const field = (name: string, value: string): string => {
    const found = new RegExp(`^${name}: ${value}`, "m").exec(text)?.[1];
    if (found !== undefined) return found;
    throw new ZenithError("corrupt_data", `the backup's backup_label has no line "${name}: …"`);
  };
  if (/^INCREMENTAL FROM LSN: /m.test(text)) {
    throw new ZenithError(
      "not_implemented",
      "this is an incremental backup: it holds only what has changed",
      {
        hint:
          'name the full backup that it builds on, and this one by "--incremental"; both have to be unpacked',
      },
    );
  }
  const start = field("START WAL LOCATION", "([0-9A-F]+/[0-9A-F]+) ");
  return {
    startLsn: parseLsn(start),
    checkpointLsn: parseLsn(field("CHECKPOINT LOCATION", "([0-9A-F]+/[0-9A-F]+)$")),
    tli: Number(field("START TIMELINE", "([0-9]+)$")),
    fromStandby: field("BACKUP FROM", "(primary|standby)$") === "standby",
  };
}
