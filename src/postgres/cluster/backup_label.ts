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

const START_LSN = ["START WAL LOCATION", "([0-9A-F]+/[0-9A-F]+) "] as const;
const START_TLI = ["START TIMELINE", "([0-9]+)$"] as const;

/**
 * @throws {ZenithError} `corrupt_data` when a line is missing; `not_implemented` for an incremental
 *   backup
 */
export function parseBackupLabel(bytes: Uint8Array): BackupLabel {
  const text = new TextDecoder().decode(bytes);
  const field = fieldsOf(text, "the backup's backup_label");
  if (isIncremental(text)) {
    throw new ZenithError(
      "not_implemented",
      "this is an incremental backup: it holds only what has changed",
      {
        hint:
          'name the full backup that it builds on, and this one by "--incremental"; both have to be unpacked',
      },
    );
  }
  return {
    startLsn: parseLsn(field(...START_LSN)),
    checkpointLsn: parseLsn(field("CHECKPOINT LOCATION", "([0-9A-F]+/[0-9A-F]+)$")),
    tli: Number(field(...START_TLI)),
    fromStandby: field("BACKUP FROM", "(primary|standby)$") === "standby",
  };
}

/** Where a backup starts. */
export interface BackupStart {
  readonly lsn: Lsn;
  readonly tli: number;
}

/**
 * Returns where a backup starts, and where the one starts that it builds on, which a full backup
 * does not.
 *
 * @param where the file's name in messages
 * @throws {ZenithError} `corrupt_data` when a line is missing
 */
export function parseBackupStart(
  bytes: Uint8Array,
  where: string,
): BackupStart & { readonly from: BackupStart | null } {
  const text = new TextDecoder().decode(bytes);
  const field = fieldsOf(text, where);
  const from = isIncremental(text)
    ? {
      lsn: parseLsn(field("INCREMENTAL FROM LSN", "([0-9A-F]+/[0-9A-F]+)$")),
      tli: Number(field("INCREMENTAL FROM TLI", "([0-9]+)$")),
    }
    : null;
  return { lsn: parseLsn(field(...START_LSN)), tli: Number(field(...START_TLI)), from };
}

function isIncremental(text: string): boolean {
  return /^INCREMENTAL FROM LSN: /m.test(text);
}

function fieldsOf(text: string, where: string): (name: string, value: string) => string {
  return (name, value) => {
    const found = new RegExp(`^${name}: ${value}`, "m").exec(text)?.[1];
    if (found !== undefined) return found;
    throw new ZenithError("corrupt_data", `${where} has no line "${name}: …"`);
  };
}
