/**
 * Prepares a branch when a Postgres runs on it for the first time, before any client can connect.
 * The branch is a copy of a database with partners outside, who must not mistake it for the
 * original: a subscription would take the parent's rows away for good.
 */
import { chmodSync, chownSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ioError } from "../common/errors.ts";
import type { Lsn } from "../common/lsn.ts";
import type { MaskFile } from "../common/mask_file.ts";
import type { PostgresLocation } from "../pg_install/find_postgres.ts";
import type { PgUser } from "../pg_install/pg_user.ts";
import { connectPostgres } from "../protocol/connect.ts";
import type { TimelineStatus } from "../protocol/management.ts";
import { COMPUTE_NAME } from "../protocol/wal_connection.ts";
import { MASK_SETTINGS, maskCluster, type PrivateConnect, runSql } from "./mask.ts";
import { PG_SUBSCRIPTION } from "../postgres/cluster/subscription.ts";
import { anyDatabase, catalogRows } from "./postgres/access_role.ts";
import { forcedSettings, type Settings } from "./postgres/postgres_conf.ts";
import type { Cover } from "./postgres/tablespaces.ts";
import { PostgresProcess, untilAccepting } from "./postgres/postgres_process.ts";

/** What the user wants of a branch's first start. */
export interface FirstStartWishes {
  /** Whether its subscriptions continue with the parent's slots. */
  readonly keepSubscriptions: boolean;
  /** Whether pg_cron runs the parent's jobs. */
  readonly keepCron: boolean;
  /** A file of SQL to run first; null for none. */
  readonly sqlFile: string | null;
  /** What masks the branch, in this order; null when it is not to be masked. */
  readonly mask: readonly MaskFile[] | null;
}

/**
 * Whether nothing was ever written to the branch.
 *
 * @param startLsn the end of its WAL on the quorum; null when it ends where the page server's does
 */
export function isFirstStart({ untouched, wal_position }: TimelineStatus, startLsn: Lsn | null): boolean {
  return untouched && (startLsn === null || startLsn <= wal_position);
}

const CRON_LIBRARY = "pg_cron";

/**
 * Settings for the command line of a Postgres whose pg_cron jobs are another's: pg_cron is not
 * loaded.
 */
export function withoutCron(settings: Settings): Record<string, string> {
  const libraries = (settings.get("shared_preload_libraries") ?? "").split(",")
    .map((name) => name.trim())
    .filter((name) => name !== "");
  const isCron = (name: string): boolean => name.replaceAll('"', "") === CRON_LIBRARY;
  if (!libraries.some(isCron)) return {};
  return { shared_preload_libraries: libraries.filter((name) => !isCron(name)).join(", ") };
}

export interface FirstStartOptions {
  readonly install: PostgresLocation;
  /** A complete data directory on which no Postgres runs. */
  readonly pgdata: string;
  readonly user: PgUser | undefined;
  readonly covers: readonly Cover[];
  readonly cgroup: string | undefined;
  readonly logFile: string;
  /** The role to connect as. */
  readonly role: string;
  /** The slot of whoever streams the WAL later; null when nobody does. */
  readonly slot: string | null;
  /** The settings of Postgres's command line, except for those that keep others out. */
  readonly settings: Readonly<Record<string, string>>;
  readonly wishes: FirstStartWishes;
  readonly signal: AbortSignal;
}

/**
 * Does what `ALTER SUBSCRIPTION … DISABLE` and `… SET (slot_name = NONE)` do, in all databases at
 * once.
 */
const DISABLE_SUBSCRIPTIONS = "UPDATE pg_catalog.pg_subscription SET subenabled = false, subslotname = NULL";

/**
 * Makes the preparations. What they write is not streamed before the Postgres that clients can
 * reach runs: if they fail, nothing of them was ever there.
 *
 * @returns what was done, as a clause for the user; undefined when there was nothing to do
 * @throws {ZenithError} `invalid_argument`, with PostgreSQL's message about the SQL
 */
export async function prepareFirstStart(options: FirstStartOptions): Promise<string | undefined> {
  const { pgdata, wishes } = options;
  const subscriptions = wishes.keepSubscriptions ? 0 : (await catalogRows(pgdata, PG_SUBSCRIPTION)).length;
  const steps: PrivateStep[] = [];
  if (subscriptions > 0) {
    steps.push((connect) => runAlone(connect, DISABLE_SUBSCRIPTIONS, "the branch's subscriptions"));
  }
  if (wishes.sqlFile !== null) {
    const file = wishes.sqlFile;
    const sql = readSql(file);
    steps.push((connect) => runAlone(connect, sql, file));
  }
  if (wishes.mask !== null) {
    const files = wishes.mask.map(({ database, file }) => ({ database, file, sql: readSql(file) }));
    steps.push((connect) => maskCluster(connect, files));
  }
  if (steps.length > 0) await runPrivately(options, steps);
  if (subscriptions === 0) return undefined;
  return `its ${
    subscriptions === 1 ? "subscription was" : `${subscriptions} subscriptions were`
  } disabled at the ` +
    "branch's first start, without a slot: they are the parent's (--keep-subscriptions)";
}

function readSql(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    throw ioError("read", path, error);
  }
}

/** Settings that keep others out of this Postgres, and keep it from reaching out. */
const PRIVATE_SETTINGS: Readonly<Record<string, string>> = {
  listen_addresses: "",
  max_logical_replication_workers: "0",
  synchronous_standby_names: "",
  default_transaction_read_only: "off",
  ssl: "off",
};

/** Uses a Postgres that nobody else can reach. */
type PrivateStep = (connect: PrivateConnect) => Promise<void>;

/** Runs SQL in a session of its own, as {@link runSql} does. */
async function runAlone(connect: PrivateConnect, sql: string, what: string): Promise<void> {
  await using client = await connect(null);
  await runSql(client, sql, what);
}

/**
 * Keeps the WAL from where the branch begins. The next Postgres must not remove it either, before
 * it is streamed: its first checkpoint would.
 */
async function keepWal(connect: PrivateConnect, slot: string): Promise<void> {
  const sql = `SELECT pg_catalog.pg_create_physical_replication_slot('${slot}', true)`;
  await runAlone(connect, sql, "a slot for the WAL");
}

/** Runs a Postgres that only this process can reach, by a socket in a private directory. */
async function runPrivately(options: FirstStartOptions, steps: readonly PrivateStep[]): Promise<void> {
  const { install, pgdata, user, covers, cgroup, logFile, role, settings, signal } = options;
  const directory = mkdtempSync(join(tmpdir(), "zenith-first-"));
  try {
    const hba = join(directory, "hba");
    writeFileSync(hba, "local all all trust\n", { mode: 0o600 });
    chmodSync(directory, 0o700);
    if (user !== undefined) { for (const path of [hba, directory]) chownSync(path, user.uid, user.gid); }
    const postmaster = await PostgresProcess.start({
      install,
      pgdata,
      user,
      covers,
      cgroup,
      logFile,
      settings: {
        ...settings,
        ...PRIVATE_SETTINGS,
        ...(options.wishes.mask === null ? {} : MASK_SETTINGS),
        unix_socket_directories: directory,
        hba_file: hba,
        ...forcedSettings(install.major),
      },
    });
    try {
      await untilAccepting(postmaster, pgdata, signal);
      const fallback = await anyDatabase(pgdata, ["postgres"]);
      const port = Number(settings["port"]);
      const connect: PrivateConnect = (database) =>
        connectPostgres({ host: directory, port }, {
          role,
          database: database ?? fallback,
          applicationName: COMPUTE_NAME,
          // A role may have a setting that makes it another.
          options: "-c role=none",
          signal,
        });
      if (options.slot !== null) await keepWal(connect, options.slot);
      for (const step of steps) await step(connect);
      await postmaster.shutDown(signal);
      signal.throwIfAborted();
    } finally {
      await postmaster.end();
    }
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}
