/** Reads and changes the settings of a branch, for the command line. */
import { computeUser } from "../compute/postgres/compute_user.ts";
import type { Settings } from "../compute/postgres/postgres_conf.ts";
import { withPassword } from "../compute/postgres/role_passwords.ts";
import {
  AUTO_CONF,
  readSettingsFiles,
  settingsOf,
  withSetting,
  writeSettingsFiles,
} from "../compute/postgres/settings_files.ts";
import { writeSettingsBase } from "../compute/settings_sync.ts";
import { connectPostgres } from "../protocol/connect.ts";
import { encodeSettings, type SettingsFiles, settingsHash } from "../protocol/branch_settings.ts";
import { ZenithError } from "../common/errors.ts";
import type { TenantId } from "../common/id.ts";
import type { ComputeInfo } from "./computes.ts";
import { findSettings, type SettingChange } from "./inherited_settings.ts";
import type { BranchInfo, PageServerClient } from "./page_server_client.ts";

/**
 * Returns a branch's settings: those of its Postgres if there is one here, else those on the page
 * server.
 */
export async function currentSettings(
  client: PageServerClient,
  branch: BranchInfo,
  tenant: TenantId,
  compute: ComputeInfo | undefined,
): Promise<Settings> {
  if (compute !== undefined) return settingsOf(readSettingsFiles(compute.paths.pgdata));
  return settingsOf((await findSettings(client, tenant, branch)).files);
}

/**
 * Changes settings of a branch and stores them on the page server.
 *
 * @param compute the branch's Postgres here; undefined when there is none
 * @returns the names of settings that take effect only at the next start
 * @throws {ZenithError} `invalid_argument` when a running Postgres rejects a setting
 */
export async function changeSettings(
  client: PageServerClient,
  branch: BranchInfo,
  tenant: TenantId,
  compute: ComputeInfo | undefined,
  changes: readonly SettingChange[],
): Promise<string[]> {
  if (compute?.status === "running") return await alterSystem(compute, changes);
  const before = compute === undefined
    ? (await findSettings(client, tenant, branch)).files
    : readSettingsFiles(compute.paths.pgdata);
  let files: SettingsFiles = before;
  for (const [name, value] of changes) files = withSetting(files, name, value);
  const packed = encodeSettings(files);
  if (compute !== undefined) writeSettingsFiles(compute.paths.pgdata, files, computeUser(compute.paths));
  await client.timelineSetSettings(tenant, branch.timeline_id, packed);
  if (compute !== undefined) writeSettingsBase(compute.paths, settingsHash(files));
  return [];
}

function quoteIdentifiers(name: string): string {
  return name.split(".").map((part) => `"${part}"`).join(".");
}

/**
 * Changes settings through a running Postgres. The supervisor notices that the files change and
 * updates the page server.
 */
async function alterSystem(compute: ComputeInfo, changes: readonly SettingChange[]): Promise<string[]> {
  const { user, password } = withPassword(compute.paths);
  const client = await connectPostgres(compute.address, {
    role: user!,
    password,
    database: "postgres",
    applicationName: "zenith pg config",
  });
  try {
    for (const [name, value] of changes) {
      const quoted = value === null ? "" : `'${value.replaceAll("'", "''")}'`;
      const change = value === null
        ? `RESET ${quoteIdentifiers(name)}`
        : `SET ${quoteIdentifiers(name)} TO ${quoted}`;
      try {
        await client.query(`ALTER SYSTEM ${change}`);
      } catch (error) {
        throw new ZenithError("invalid_argument", error instanceof Error ? error.message : String(error), {
          cause: error,
        });
      }
      if (value === null) dropFromFile(compute, name);
    }
    await client.query("SELECT pg_reload_conf()");
    // The postmaster reloads the files asynchronously. The context of a setting is known at once.
    const { rows } = await client.query(
      "SELECT name FROM pg_settings WHERE context = 'postmaster' ORDER BY name",
    );
    const late = new Set(rows.map(([name]) => String(name).toLowerCase()));
    return changes.map(([name]) => name).filter((name) => late.has(name.toLowerCase()));
  } finally {
    client.destroy();
  }
}

/** Removes a setting from the other configuration files: ALTER SYSTEM changes only its own. */
function dropFromFile({ paths }: ComputeInfo, name: string): void {
  const files = readSettingsFiles(paths.pgdata);
  const changed = withSetting(files, name, null);
  changed.delete(AUTO_CONF);
  const auto = readSettingsFiles(paths.pgdata).get(AUTO_CONF);
  if (auto !== undefined) changed.set(AUTO_CONF, auto);
  writeSettingsFiles(paths.pgdata, changed, computeUser(paths));
}
