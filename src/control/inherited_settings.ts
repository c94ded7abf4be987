/**
 * Finds the settings that a new Postgres on a branch starts with: the branch's own, or its
 * parent's.
 */
import { ZenithError } from "../common/errors.ts";
import type { TenantId } from "../common/id.ts";
import { initialHbaConf, initialPostgresConf } from "../compute/postgres/postgres_conf.ts";
import { POSTGRESQL_CONF, settingsOf, withSetting } from "../compute/postgres/settings_files.ts";
import { decodeSettings, settingsHash } from "../protocol/branch_settings.ts";
import { type BranchInfo, PageServerClient } from "./page_server_client.ts";

/** A setting and its new value; null resets it to PostgreSQL's default. */
export type SettingChange = readonly [name: string, value: string | null];

/** The name of a custom setting contains a dot. */
const SETTING_NAME = /^[A-Za-z_][A-Za-z0-9_$]*(?:\.[A-Za-z_][A-Za-z0-9_$]*)?$/;
const OWN_NAMES = new Set(["port", "listen_addresses", "unix_socket_directories"]);

/** Reads `name=value`. @throws {ZenithError} `invalid_argument` */
export function parseSettingChange(text: string): SettingChange {
  const equals = text.indexOf("=");
  if (equals < 1) throw new ZenithError("invalid_argument", `"${text}" is no setting: expected name=value`);
  return [checkSettingName(text.slice(0, equals).trim()), text.slice(equals + 1).trim()];
}

/**
 * @throws {ZenithError} `invalid_argument` when it is not a setting's name, or not a setting of a
 *   branch
 */
export function checkSettingName(name: string): string {
  if (!SETTING_NAME.test(name)) throw new ZenithError("invalid_argument", `"${name}" is no setting's name`);
  if (!OWN_NAMES.has(name.toLowerCase()) && !/^zenith\./i.test(name)) return name;
  throw new ZenithError("invalid_argument", `${name} belongs to one Postgres, not to its branch`, {
    hint: 'it is in compute.conf, beside the data directory; "zenith pg create" has --port and --listen',
  });
}

/** The configuration files of a branch on which nothing has been set. */
function initialFiles(): Map<string, Uint8Array> {
  const encode = (text: string): Uint8Array => new TextEncoder().encode(text);
  return new Map([
    [POSTGRESQL_CONF, encode(initialPostgresConf())],
    ["pg_hba.conf", encode(initialHbaConf())],
    ["pg_ident.conf", encode("")],
  ]);
}

export interface FoundSettings {
  readonly files: Map<string, Uint8Array>;
  /** The hash of the settings on the page server; undefined when it has none. */
  readonly hash: string | undefined;
  /** Notes for the user on settings that were changed because a branch must not inherit them. */
  readonly notes: readonly string[];
}

/** Returns the configuration that a new Postgres on the branch starts with. */
export async function findSettings(
  client: PageServerClient,
  tenant: TenantId,
  { timeline_id: timeline, name }: BranchInfo,
): Promise<FoundSettings> {
  const { timeline_id: owner, settings } = await client.timelineSettings(tenant, timeline);
  if (settings === null) return { files: initialFiles(), hash: undefined, notes: [] };
  const stored = decodeSettings(settings);
  const files = new Map([...initialFiles(), ...stored]);
  const archives = !["off", "", undefined].includes(settingsOf(files).get("archive_mode"));
  if (owner === timeline || !archives) return { files, hash: settingsHash(stored), notes: [] };
  // The branch's WAL segments have the same names as its parent's.
  return {
    files: withSetting(files, "archive_mode", "off"),
    hash: settingsHash(stored),
    notes: [
      `archive_mode of branch ${name} is off: its archive_command is its parent's, and would mix their WAL`,
    ],
  };
}
