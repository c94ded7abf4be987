/** Runs initdb to create the cluster of a new tenant. */
import { spawn } from "node:child_process";
import { join } from "node:path";
import { errorMessage, ZenithError } from "../common/errors.ts";
import type { PostgresInstall } from "./find_postgres.ts";
import { assertReachable, asUser, makeOwnedDirectory, type PgUser, pgUser } from "./pg_user.ts";

/** The superuser of every database cluster that Zenith makes. */
export const ZENITH_SUPERUSER = "zenith_admin";

/**
 * What of a cluster is decided once, when it is made. What is left out is as {@link runInitdb}
 * says.
 */
export interface ClusterOptions {
  /** Of the C library. */
  readonly locale?: string | undefined;
  readonly encoding?: string | undefined;
  /** Order text by ICU, by this locale; from PostgreSQL 15 on. */
  readonly icuLocale?: string | undefined;
  /**
   * Whether pages have checksums; initdb's default when left out: from PostgreSQL 18 on they have.
   */
  readonly dataChecksums?: boolean | undefined;
}

export interface InitdbOptions {
  readonly install: PostgresInstall;
  /**
   * The data directory to make: absent or empty.
   */
  readonly dir: string;
  readonly superuser: string;
  /** Whom it runs as and whose the files become; by default {@link pgUser}. */
  readonly user?: PgUser | undefined;
  readonly cluster?: ClusterOptions;
}

/**
 * Runs `initdb`: UTF-8 and C locale (the same order of text on every machine, whatever its libc)
 * unless told otherwise, trust on local connections. Nothing is fsynced: the caller reads the
 * result and makes that durable.
 *
 * @throws {ZenithError} `io` or `disk_full` with initdb's own last words when it fails
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

/** Tells clusters apart by how they were made: initdb's own arguments. */
export function clusterArgs({ locale, encoding, icuLocale, dataChecksums }: ClusterOptions): string[] {
  return [
    `--encoding=${encoding ?? "UTF8"}`,
    `--locale=${locale ?? "C"}`,
    ...(icuLocale === undefined ? [] : ["--locale-provider=icu", `--icu-locale=${icuLocale}`]),
    ...(dataChecksums === true ? ["--data-checksums"] : []),
  ];
}

/**
 * The environment for Postgres programs: ours, without the variables that would change where and
 * how they run.
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
