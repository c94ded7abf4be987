/** `zenith follow`: keeps a branch that follows a running primary, or an archive of its WAL. */
import type { ArchiveLocation } from "../../common/archive_location.ts";
import { isRepository } from "../../archive/pgbackrest/repository.ts";
import { ZenithError } from "../../common/errors.ts";
import {
  type BranchName,
  generateTenantId,
  parseBranchName,
  parseTenantId,
  type TenantId,
} from "../../common/id.ts";
import { formatLsn } from "../../common/lsn.ts";
import { redactPasswords } from "../../common/redact.ts";
import {
  type Environment,
  loadEnvironment,
  pageServerAddress,
  setDefaultTenant,
} from "../../control/environment.ts";
import { type BackupSource, openBackup, openRepositoryBackup } from "../../control/backup_source.ts";
import { importCluster, type ImportedCluster } from "../../control/import_cluster.ts";
import { type Followed, PageServerClient } from "../../control/page_server_client.ts";
import {
  type Command,
  type CommandOption,
  JSON_OPTION,
  optionGib,
  optionText,
  type OptionValues,
  requiredArg,
  TENANT_OPTION,
} from "../cli/command.ts";
import {
  ARCHIVE_OPTIONS,
  archiveLocation,
  assertNoOther,
  openRepository,
  openWal,
} from "./archive_options.ts";
import { type Column, formatBytes, print, printJson, printList, Progress } from "../cli/output.ts";

/** The most WAL that a primary keeps for a follower, unless told otherwise. */
const LIMIT_DEFAULT_GIB = 16;

const FROM_OPTION: CommandOption = {
  flags: "--from <url>",
  description: "The primary: postgres://role:password@host:port, of a role with REPLICATION",
  values: [],
};

export const followCommand: Command = {
  usage: "follow <branch>",
  description: "Make a branch that follows a running primary, or a WAL archive",
  options: [
    FROM_OPTION,
    ...ARCHIVE_OPTIONS,
    { flags: "--base <source>", description: "The backup to begin with, when the archive has only WAL" },
    { flags: "--lazy", description: "Read the backup's pages when they are needed, and copy it meanwhile" },
    { flags: "--tenantid <id>", description: "The new tenant's id, 32 hex characters; chosen when left out" },
    {
      flags: "--max-slot-gib <n>",
      description: "Give the slot up when it holds back more WAL than this at the primary",
      default: String(LIMIT_DEFAULT_GIB),
      values: [],
    },
    { flags: "--set-default", description: "Let commands that name no tenant and branch take these" },
    JSON_OPTION,
  ],
  examples: [
    [
      "follow prod --from postgres://replicator:secret@prod.example.com:5432 --set-default",
      "A slot, a copy, its WAL",
    ],
    [
      "follow prod --from postgres://replicator@10.0.0.5 --max-slot-gib 100",
      "Up to 100 GiB of WAL may wait there",
    ],
    ["follow prod --archive /var/lib/pgbackrest", "A pgBackRest repository, never the primary itself"],
    ["follow prod --archive /var/lib/pgbackrest --lazy", "At once, while the backup is still being copied"],
    ["follow prod --archive /wal --base /backups/monday", "A directory of WAL, and where to begin"],
  ],
  async run(args, options) {
    const environment = loadEnvironment();
    const branch = parseBranchName(requiredArg(args, 0));
    const source = optionText(options, "from");
    const archive = optionText(options, "archive");
    if ((source === undefined) === (archive === undefined)) {
      throw new ZenithError("invalid_argument", `what is ${branch} to follow?`, {
        hint: "a primary, --from postgres://replicator:secret@prod.example.com:5432, or an --archive",
      });
    }
    const id = optionText(options, "tenantid");
    const tenant = id === undefined ? generateTenantId() : parseTenantId(id);
    const result = source !== undefined
      ? await followPrimary(environment, tenant, branch, source, options)
      : await followArchive(environment, tenant, branch, archive!, options);
    if (options["setDefault"] === true) setDefaultTenant(environment, tenant, branch);
    const begins = formatLsn(result.history_begins_lsn);
    if (options["json"] === true) {
      return printJson({
        tenant_id: tenant,
        branch,
        timeline_id: result.timeline_id,
        pg_version: result.pg_version,
        system_id: String(result.system_id),
        history_begins_lsn: begins,
        imported_bytes: result.imported_bytes,
      });
    }
    const how = options["lazy"] === true ? "mounted" : "copied";
    print(`tenant ${tenant} ${how}: PostgreSQL ${result.pg_version}, ${formatBytes(result.imported_bytes)}`);
    const what = source === undefined ? `archive ${archive}` : redactPasswords(source);
    print(`branch ${branch} follows ${what}: history from ${begins}`);
  },
};

async function followPrimary(
  environment: Environment,
  tenant: TenantId,
  branch: BranchName,
  source: string,
  options: OptionValues,
): Promise<ImportedCluster> {
  assertNoOther(options, ["stanza", "backup", "base", "lazy"], "--archive");
  await using client = new PageServerClient(pageServerAddress(environment));
  const limitBytes = optionGib(options, "maxSlotGib", "--max-slot-gib", LIMIT_DEFAULT_GIB);
  return await withProgress(() => client.followStart(tenant, branch, source, limitBytes));
}

async function followArchive(
  environment: Environment,
  tenant: TenantId,
  branch: BranchName,
  archive: string,
  options: OptionValues,
): Promise<ImportedCluster> {
  const location = archiveLocation(archive, optionText(options, "stanza"));
  if (options["lazy"] === true) return await mountArchive(environment, tenant, branch, location, options);
  const backup = await firstBackup(archive, options);
  return await withProgress(() =>
    importCluster(pageServerAddress(environment), tenant, branch, backup, () => {}, location)
  );
}

/** Follows an archive whose backup is read when it is needed. */
async function mountArchive(
  environment: Environment,
  tenant: TenantId,
  branch: BranchName,
  location: ArchiveLocation,
  options: OptionValues,
): Promise<ImportedCluster> {
  if (optionText(options, "base") !== undefined || !isRepository(location.path)) {
    throw new ZenithError("invalid_argument", "--lazy reads a backup of a pgBackRest repository, no other", {
      hint: "leave it out: the backup is copied first",
    });
  }
  const { backup } = await openRepository(location.path, options);
  await using client = new PageServerClient(pageServerAddress(environment));
  return await client.followMount(tenant, branch, location, backup.label);
}

/** The backup to begin with, with as much WAL as it needs. */
async function firstBackup(archive: string, options: OptionValues): Promise<BackupSource> {
  const base = optionText(options, "base");
  if (base !== undefined) return openBackup(base, await openWal(archive), "end of timeline");
  if (!isRepository(archive)) {
    throw new ZenithError("invalid_argument", `${archive} is no pgBackRest repository: it has only WAL`, {
      hint: "name the backup to begin with by --base",
    });
  }
  const { backup, wal } = await openRepository(archive, options);
  return openRepositoryBackup(backup, wal, backup.stopLsn);
}

async function withProgress<T>(work: () => Promise<T>): Promise<T> {
  using _shown = new Progress("copying");
  return await work();
}

export const followListCommand: Command = {
  usage: "follow list",
  description: "List the branches that follow something, and how far behind they are",
  options: [JSON_OPTION],
  examples: [["follow list", "Of all tenants"]],
  async run(_args, options) {
    await using client = new PageServerClient(pageServerAddress(loadEnvironment()));
    printList(await client.followList(), COLUMNS, (followed) => ({ ...followed }), options);
  },
};

const COLUMNS: readonly Column<Followed>[] = [
  { title: "BRANCH", cell: ({ branch, timeline_id }) => branch ?? timeline_id },
  { title: "TENANT", cell: ({ tenant_id }) => tenant_id },
  { title: "SOURCE", cell: ({ source }) => source },
  {
    title: "STATE",
    cell: ({ state, uncopied_bytes: bytes }) =>
      bytes === null || bytes === 0 ? state : `${state}, ${formatBytes(bytes)} to copy`,
  },
  { title: "LAG", cell: ({ lag_bytes }) => formatBytes(lag_bytes) },
  { title: "", cell: ({ lag_s }) => lag_s === null ? "" : `${lag_s.toFixed(1)} s` },
  { title: "PROBLEM", cell: ({ problem }) => problem ?? "" },
];

export const followStopCommand: Command = {
  usage: "follow stop <branch>",
  description: "Stop following, until follow resume; the slot stays, and keeps WAL at the primary",
  options: [TENANT_OPTION],
  completions: ["branch"],
  examples: [["follow stop prod", "The branch stays as it is now"]],
  async run(args, options) {
    const { client, tenant, branch } = await named(args, options);
    await using _client = client;
    await client.followStop(tenant, branch);
    print(`branch ${branch} has stopped to follow`);
  },
};

export const followResumeCommand: Command = {
  usage: "follow resume <branch>",
  description: "Go on following, from another server of the same cluster if --from names one",
  options: [
    { ...FROM_OPTION, description: "Another server of the cluster, as after a failover" },
    TENANT_OPTION,
  ],
  completions: ["branch"],
  examples: [
    ["follow resume prod", "From the primary as before"],
    [
      "follow resume prod --from postgres://replicator@standby.example.com",
      "From the standby that took over",
    ],
  ],
  async run(args, options) {
    const { client, tenant, branch } = await named(args, options);
    await using _client = client;
    await client.followResume(tenant, branch, optionText(options, "from"));
    print(`branch ${branch} goes on`);
  },
};

export const followRemoveCommand: Command = {
  usage: "follow remove <branch>",
  description: "End following for good, and drop the slot; the branch stays, and can be written",
  options: [TENANT_OPTION],
  completions: ["branch"],
  examples: [["follow remove prod", "From then on prod is a branch as any other"]],
  async run(args, options) {
    const { client, tenant, branch } = await named(args, options);
    await using _client = client;
    const problem = await client.followRemove(tenant, branch);
    print(`branch ${branch} follows nothing any more`);
    if (problem !== null) process.stderr.write(`zenith: ${problem}\n`);
  },
};

/** Finds the tenant: a follower is usually of another one than the default. */
async function named(args: readonly (string | undefined)[], options: OptionValues) {
  const environment: Environment = loadEnvironment();
  const branch = parseBranchName(requiredArg(args, 0));
  const client = new PageServerClient(pageServerAddress(environment));
  try {
    const tenant = await tenantOf(client, environment, branch, optionText(options, "tenantid"));
    return { client, tenant, branch };
  } catch (error) {
    await client.close();
    throw error;
  }
}

async function tenantOf(
  client: PageServerClient,
  environment: Environment,
  branch: string,
  id: string | undefined,
): Promise<TenantId> {
  if (id !== undefined) return parseTenantId(id);
  const found = (await client.followList()).filter((followed) => followed.branch === branch);
  const [only] = found;
  return found.length === 1 && only !== undefined ? only.tenant_id : environment.config.default_tenant_id;
}
