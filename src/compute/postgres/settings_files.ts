/** Reads and writes a branch's settings as files of a data directory. */
import { ForeignDirectory } from "../../common/foreign_directory.ts";
import type { PgUser } from "../../pg_install/pg_user.ts";
import { isSettingsName, type SettingsFiles } from "../../protocol/branch_settings.ts";
import { isConfiguration } from "./configuration_files.ts";
import { CONF_MODE, parseSettings, quoteSetting, type Settings } from "./postgres_conf.ts";

/** Names of files that other programs create while they replace a file. */
const TEMPORARY = /\.(?:new|tmp|swp|bak|orig|log)$/;
/** A limit for settings, which are lines that people write, and for certificates. */
const FILE_MAX_BYTES = 256 << 10;

export const POSTGRESQL_CONF = "postgresql.conf";
export const AUTO_CONF = "postgresql.auto.conf";

function isKept(name: string): boolean {
  return isSettingsName(name) && isConfiguration(name) && !TEMPORARY.test(name);
}

/** Reads the configuration files that exist. @throws {ZenithError} `io` */
export function readSettingsFiles(pgdata: string): Map<string, Uint8Array> {
  const files = new Map<string, Uint8Array>();
  using directory = ForeignDirectory.open(pgdata);
  for (const name of directory.names().filter(isKept)) {
    const found = directory.lstat(name);
    if (found?.isFile() && found.size <= FILE_MAX_BYTES) {
      files.set(name, directory.read(name, FILE_MAX_BYTES));
    }
  }
  return files;
}

/** Returns a text that changes whenever one of the files does. Reads none of them. */
export function settingsSignature(pgdata: string): string {
  using directory = ForeignDirectory.open(pgdata);
  return directory.names().filter(isKept).sort().map((name) => {
    const found = directory.lstat(name);
    return `${name} ${found?.ino} ${found?.size} ${found?.mtimeMs}`;
  }).join("\n");
}

/** Makes these the data directory's only configuration files. @throws {ZenithError} */
export function writeSettingsFiles(
  pgdata: string,
  files: SettingsFiles,
  user: PgUser | undefined,
): void {
  using directory = ForeignDirectory.open(pgdata);
  for (const name of directory.names().filter(isKept)) {
    if (!files.has(name) && directory.lstat(name)?.isFile()) directory.remove(name);
  }
  for (const [name, bytes] of files) {
    // Another version of Zenith may keep files that this one does not. Those stay as they are.
    if (isKept(name)) directory.replaceFile(name, bytes, CONF_MODE, user);
  }
}

function textOf(files: SettingsFiles, name: string): string {
  return new TextDecoder().decode(files.get(name) ?? new Uint8Array(0));
}

/** Returns the settings that the files set. */
export function settingsOf(files: SettingsFiles): Settings {
  const settings = new Map<string, string>();
  for (const name of [POSTGRESQL_CONF, AUTO_CONF]) parseSettings(textOf(files, name), settings);
  return settings;
}

/**
 * Returns the files with one setting changed, as ALTER SYSTEM does it.
 *
 * @param value null to use PostgreSQL's default again, whichever file has set it
 */
export function withSetting(
  files: SettingsFiles,
  setting: string,
  value: string | null,
): Map<string, Uint8Array> {
  const changed = new Map(files);
  const without = (name: string): string[] =>
    textOf(files, name).split("\n").filter((line) => !parseSettings(line).has(setting.toLowerCase()));
  const put = (name: string, lines: readonly string[]): void => {
    const text = lines.join("\n").replace(/\n*$/, "\n");
    changed.set(name, new TextEncoder().encode(text));
  };
  const auto = without(AUTO_CONF);
  if (value === null) put(POSTGRESQL_CONF, without(POSTGRESQL_CONF));
  else auto.push(`${setting} = ${quoteSetting(value)}`);
  if (files.has(AUTO_CONF) || value !== null) put(AUTO_CONF, auto.filter((line) => line !== ""));
  return changed;
}
