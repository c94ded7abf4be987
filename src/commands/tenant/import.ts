/** `zenith import`: makes a tenant from a stopped cluster or a base backup. */
import { ZenithError } from "../../common/errors.ts";
import { generateTenantId, parseBranchName, parseTenantId } from "../../common/id.ts";
import { formatLsn } from "../../common/lsn.ts";
import {
  type BackupSource,
  openBackup,
  openIncrementalBackup,
  openRepositoryBackup,
} from "../../control/backup_source.ts";
import { loadEnvironment, pageServerAddress, setDefaultTenant } from "../../control/environment.ts";
import { importCluster, type ImportResult } from "../../control/import_cluster.ts";
import { type Command, JSON_OPTION, optionText, optionTexts, type OptionValues } from "../cli/command.ts";
import { ARCHIVE_OPTIONS, assertNoOther, openRepository, openWal } from "./archive_options.ts";
import { formatBytes, print, printJson, Progress } from "../cli/output.ts";

export const importCommand: Command = {
  usage: "import [source]",
  description: "Make a tenant from a base backup, an archive or a stopped cluster",
  options: [
    ...ARCHIVE_OPTIONS,
    {
      flags: "--incremental <directory>",
      description: "An incremental backup on top, of PostgreSQL 17 or later; may be repeated, oldest first",
      multiple: true,
    },
    { flags: "--as <branch>", description: "The name of its branch; main when left out" },
    { flags: "--tenantid <id>", description: "The new tenant's id, 32 hex characters; chosen when left out" },
    { flags: "--wal <directory>", description: "More of its WAL: an archive, of pgBackRest, barman or cp" },
    { flags: "--set-default", description: "Let commands that name no tenant and branch take these" },
    JSON_OPTION,
  ],
  examples: [
    ["import /backups/monday", "What pg_basebackup has written, by -Fp or -Ft, with checksums compared"],
    ["import /backups/monday --as prod --set-default", 'Then "zenith branch test prod --start"'],
    ["import /backups/monday --wal /archive/wal", "With all WAL of the archive since then"],
    ["import /backups/sunday --incremental /backups/monday", "A full backup, and an incremental one on it"],
    ["import --archive /var/lib/pgbackrest --as prod", "The newest backup of a pgBackRest repository"],
    ["import base.tar.zst", "One tar, by gzip, lz4 or zstd if it is compressed"],
    ["import -", "pg_basebackup -h prod -D - -Ft -X fetch | zenith import -"],
    ["import /var/lib/postgresql/15/main", "A cluster that is stopped"],
  ],
  async run(args, options) {
    const environment = loadEnvironment();
    const source = await sourceOf(args[0], options);
    const branch = parseBranchName(optionText(options, "as") ?? "main");
    const id = optionText(options, "tenantid");
    const tenant = id === undefined ? generateTenantId() : parseTenantId(id);
    const result = await withProgress((progress) =>
      importCluster(
        pageServerAddress(environment),
        tenant,
        branch,
        source,
        progress,
      )
    );
    if (options["setDefault"] === true) setDefaultTenant(environment, tenant, branch);
    if (options["json"] === true) return printJson(importJson(result, branch));
    print(
      `tenant ${tenant} imported: PostgreSQL ${result.pg_version}, ${formatBytes(result.imported_bytes)}`,
    );
    const from = formatLsn(result.history_begins_lsn);
    print(`branch ${branch}: history from ${from} to ${formatLsn(result.latest_valid_lsn)}`);
    print(VERIFIED[result.verified]);
  },
};

/** @throws {ZenithError} `invalid_argument`, `not_found`, `corrupt_data`, `io` */
async function sourceOf(path: string | undefined, options: OptionValues): Promise<BackupSource> {
  const wal = optionText(options, "wal");
  const archive = optionText(options, "archive");
  const incremental = optionTexts(options, "incremental");
  if (archive === undefined) {
    assertNoOther(options, ["stanza", "backup"], "--archive");
    if (path !== undefined) {
      const more = wal === undefined ? undefined : await openWal(wal);
      return incremental.length === 0
        ? openBackup(path, more)
        : openIncrementalBackup([path, ...incremental], more);
    }
    throw new ZenithError("invalid_argument", "what is to be imported?", {
      hint: "name a backup's directory or tar, or a pgBackRest repository by --archive",
    });
  }
  if (path !== undefined || wal !== undefined || incremental.length > 0) {
    throw new ZenithError("invalid_argument", "--archive has the backup and its WAL: leave out the others");
  }
  const { backup, wal: itsWal } = await openRepository(archive, options);
  return openRepositoryBackup(backup, itsWal);
}

const VERIFIED: Readonly<Record<ImportResult["verified"], string>> = {
  checksums: "all files are as the backup's manifest says",
  newest: "the newest backup is as its manifest says, and so are the sizes of what was read of the others",
  sizes: "all files have the sizes that the backup's manifest says; not all checksums could be compared",
  none: "there was no backup_manifest to compare the files with",
};

async function withProgress<T>(work: (progress: (bytes: number) => void) => Promise<T>): Promise<T> {
  using shown = new Progress("importing");
  return await work((bytes) => {
    // In a log, each step would be a line.
    if (process.stderr.isTTY) shown.update(`importing, ${formatBytes(bytes)} sent`);
  });
}

function importJson(result: ImportResult, branch: string): Record<string, unknown> {
  return {
    tenant_id: result.tenant_id,
    branch,
    timeline_id: result.timeline_id,
    pg_version: result.pg_version,
    system_id: String(result.system_id),
    history_begins_lsn: formatLsn(result.history_begins_lsn),
    latest_valid_lsn: formatLsn(result.latest_valid_lsn),
    imported_bytes: result.imported_bytes,
    verified: result.verified,
  };
}
