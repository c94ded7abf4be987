/** Runs initdb to create the cluster of a new tenant. */
import { spawn } from "node:child_process";
import { join } from "node:path";
import { errorMessage, ZenithError } from "../common/errors.ts";
import type { PostgresInstall } from "./find_postgres.ts";
import { assertReachable, asUser, makeOwnedDirectory, type PgUser, pgUser } from "./pg_user.ts";

/** The superuser of every database cluster that Zenith makes. */
export const ZENITH_SUPERUSER = "zenith_admin";

/** The role for people who need not be superuser. The supervisor makes it. */
export const ZENITH_OWNER = "zenith_owner";

/**
 * The properties of a cluster that are fixed when it is created. {@link runInitdb} describes the
 * defaults.
 */
export interface ClusterOptions {
  /** A locale of the C library. */
  readonly locale?: string | undefined;
  readonly encoding?: string | undefined;
  /** The ICU locale that orders text. Needs PostgreSQL 15 or newer. */
  readonly icuLocale?: string | undefined;
  /** Whether pages have checksums. By default initdb decides: from PostgreSQL 18 on, they do. */
  readonly dataChecksums?: boolean | undefined;
}

export interface InitdbOptions {
  readonly install: PostgresInstall;
  /** The data directory to create. It must be absent or empty. */
  readonly dir: string;
  readonly superuser: string;
  /** The user that initdb runs as and that owns the files. Defaults to {@link pgUser}. */
  readonly user?: PgUser | undefined;
  readonly cluster?: ClusterOptions;
}

/**
 * Runs `initdb`. By default the encoding is UTF-8, and the locale is C, which orders text the same
 * on every machine, whatever its libc. Local connections are trusted. Nothing is fsynced: the
 * caller reads the result and makes that durable.
 *
 * @throws {ZenithError} `io` or `disk_full`, with initdb's own last words, when it fails
 */
export async function runInitdb(options: InitdbOptions): Promise<void> {
  const { install, dir, superuser } = options;
  const { user = pgUser() } = options;
  assertReachable(install.binDir, user);
  makeOwnedDirectory(dir, user);
  const args = [
    `--pgdata=${dir}`,
    `--username=${superuser}`,
    "--auth=trust",
    "--no-sync",
    "--no-instructions",
    ...clusterArgs(options.cluster ?? {}),
  ];
  const child = spawn(join(install.binDir, "initdb"), args, {
    ...asUser(user),
    cwd: dir,
    env: postgresEnvironment(),
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  const collect = (chunk: string) => {
    output += chunk;
  };
  child.stdout.setEncoding("utf8").on("data", collect);
  child.stderr.setEncoding("utf8").on("data", collect);
  const outcome = await new Promise<string | undefined>((resolve) => {
    child.on("error", (error) => resolve(errorMessage(error)));
    child.on("close", (code, signal) => {
      if (code === 0) resolve(undefined);
      else resolve(lastErrorLine(output) ?? `exit ${code ?? signal}`);
    });
  });
  if (outcome === undefined) return;
  const message = `initdb of ${dir} failed: ${outcome}`;
  if (!outcome.includes("No space left on device")) throw new ZenithError("io", message);
  throw new ZenithError("disk_full", message, { hint: "free some space there, or choose another place" });
}

/**
 * Returns the arguments for initdb that decide what kind of cluster it creates. They also tell
 * those kinds apart.
 */
export function clusterArgs({ locale, encoding, icuLocale, dataChecksums }: ClusterOptions): string[] {
  return [
    `--encoding=${encoding ?? "UTF8"}`,
    `--locale=${locale ?? "C"}`,
    ...(icuLocale === undefined ? [] : ["--locale-provider=icu", `--icu-locale=${icuLocale}`]),
    ...(dataChecksums === true ? ["--data-checksums"] : []),
  ];
}

/**
 * The environment for PostgreSQL's programs: ours, without the variables that would change where
 * and how they run.
 */
export function postgresEnvironment(): Record<string, string> {
  const env: Record<string, string> = {};
  for (const [name, value] of Object.entries(process.env)) {
    if (value === undefined || /^(PG|LC_|LANG|NOTIFY_SOCKET)/.test(name)) continue;
    env[name] = value;
  }
  env["LC_ALL"] = "C";
  return env;
}

function lastErrorLine(output: string): string | undefined {
  const lines = output.split("\n").filter((line) => line.trim() !== "");
  return lines.findLast((line) => /error|fatal|could not/i.test(line)) ?? lines.at(-1);
}
