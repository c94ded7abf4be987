/**
 * Keeps a compute's configuration files in agreement with its branch's settings at the page server.
 * Users and ALTER SYSTEM change the files. A new branch, or a compute elsewhere, gets the settings
 * from the page server.
 */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { errorMessage, ioError } from "../common/errors.ts";
import type { ComputePaths } from "../common/paths.ts";
import { sleep } from "../common/sleep.ts";
import type { PgUser } from "../pg_install/pg_user.ts";
import type { Logger } from "../process/log.ts";
import { decodeSettings, encodeSettings, settingsHash } from "../protocol/branch_settings.ts";
import { fetchSettings, storeSettings } from "./page_server_link.ts";
import type { Conditions } from "./postgres/conditions.ts";
import type { ComputeIdentity } from "./postgres/postgres_conf.ts";
import { readSettingsFiles, settingsSignature, writeSettingsFiles } from "./postgres/settings_files.ts";

/** How soon a change is noticed. */
const LOOK_MS = 1_000;
const CONDITION = "settings";

/**
 * Returns the hash of the settings on which the files and the branch last agreed. Undefined when
 * they never have.
 */
export function readSettingsBase(paths: ComputePaths): string | undefined {
  if (!existsSync(paths.settingsBase)) return undefined;
  try {
    return readFileSync(paths.settingsBase, "utf8").trim();
  } catch (error) {
    throw ioError("read", paths.settingsBase, error);
  }
}

export function writeSettingsBase(paths: ComputePaths, hash: string): void {
  try {
    writeFileSync(paths.settingsBase, `${hash}\n`);
  } catch (error) {
    throw ioError("write", paths.settingsBase, error);
  }
}

export interface SettingsSyncOptions {
  readonly compute: ComputeIdentity;
  readonly paths: ComputePaths;
  readonly user: PgUser | undefined;
  readonly conditions: Conditions;
  readonly log: Logger;
}

/**
 * Makes the files and the branch's settings agree before a start. Files that have changed since
 * they last agreed become the branch's settings. Otherwise they are replaced with the branch's
 * settings, which a compute elsewhere may have changed.
 *
 * @throws {ZenithError} when the page server does not answer; `invalid_argument` when the files are
 *   too large
 */
export async function settleSettings(options: SettingsSyncOptions): Promise<void> {
  const { compute, paths, user, log } = options;
  const local = readSettingsFiles(paths.pgdata);
  const hash = settingsHash(local);
  const stored = await fetchSettings(compute);
  if (stored !== null && hash === readSettingsBase(paths)) {
    const files = decodeSettings(stored);
    if (settingsHash(files) === hash) return;
    writeSettingsFiles(paths.pgdata, files, user);
    writeSettingsBase(paths, settingsHash(files));
    log.info("took over the branch's settings, which were changed elsewhere");
    return;
  }
  await storeSettings(compute, encodeSettings(local));
  writeSettingsBase(paths, hash);
}

/**
 * Stores changed files as the branch's settings, while Postgres runs and once more when `signal` is
 * aborted.
 */
export async function followSettings(options: SettingsSyncOptions, signal: AbortSignal): Promise<void> {
  const { compute, paths, conditions, log } = options;
  let known = "";
  let isLast = false;
  while (!isLast) {
    await sleep(LOOK_MS, signal);
    isLast = signal.aborted;
    try {
      const signature = settingsSignature(paths.pgdata);
      if (signature === known) continue;
      const files = readSettingsFiles(paths.pgdata);
      const hash = settingsHash(files);
      if (hash !== readSettingsBase(paths)) {
        await storeSettings(compute, encodeSettings(files));
        writeSettingsBase(paths, hash);
        log.info("the branch has the settings that were changed");
      }
      known = signature;
      conditions.set(CONDITION, undefined);
    } catch (error) {
      const text = `its settings are not kept with the branch: ${errorMessage(error)}`;
      conditions.set(CONDITION, text, { hint: "the next start tries again, too", down: false });
    }
  }
}
