/** Caches the data directories that new tenants are created from. */
import { createHash } from "node:crypto";
import { lstatSync } from "node:fs";
import { join } from "node:path";
import type { Disk } from "../../common/disk.ts";
import { ioError, ZenithError } from "../../common/errors.ts";
import { ForeignDirectory, removeForeignTree } from "../../common/foreign_directory.ts";
import type { PageServerPaths } from "../../common/paths.ts";
import { findNewestPostgres, findPostgres, type PostgresInstall } from "../../pg_install/find_postgres.ts";
import { clusterArgs, type ClusterOptions, runInitdb, ZENITH_SUPERUSER } from "../../pg_install/initdb.ts";
import { initdbUser } from "../../pg_install/pg_user.ts";

/**
 * The data directories that new tenants are created from, one for each PostgreSQL version and kind
 * of cluster. So initdb runs once per page server for each, not once per tenant.
 */
export class InitdbCache {
  readonly #disk: Disk;
  readonly #paths: PageServerPaths;
  readonly #pgDistribDir: string | undefined;
  /** Runs of initdb by the directory's name. */
  readonly #running = new Map<string, Promise<string>>();

  constructor(disk: Disk, paths: PageServerPaths, pgDistribDir: string | undefined) {
    this.#disk = disk;
    this.#paths = paths;
    this.#pgDistribDir = pgDistribDir;
  }

  /**
   * @param major null for the newest available one
   * @param cluster the kind of cluster
   * @returns the data directory
   * @throws {ZenithError} when there is no usable PostgreSQL of that major, or initdb fails
   */
  get(major: number | null, cluster: ClusterOptions = {}): Promise<string> {
    const options = { distribDir: this.#pgDistribDir };
    const install = major === null ? findNewestPostgres(options) : findPostgres(major, options);
    const name = directoryName(install, cluster);
    const running = this.#running.get(name) ?? this.#make(install, name, cluster).finally(() => {
      this.#running.delete(name);
    });
    this.#running.set(name, running);
    return running;
  }

  async #make(install: PostgresInstall, name: string, cluster: ClusterOptions): Promise<string> {
    const ready = join(this.#paths.initdbCache, name);
    if (isOurs(ready)) return ready;
    const inProgress = `${ready}.running`;
    try {
      removeForeignTree(inProgress);
      removeForeignTree(ready);
      const user = initdbUser([install.binDir, this.#paths.workdir]);
      await runInitdb({ install, dir: inProgress, superuser: ZENITH_SUPERUSER, user, cluster });
      takeOver(inProgress);
      // The cache is not user data. If a crash tears it, reading it fails, and the remedy is to
      // remove it.
      this.#disk.renameSync(inProgress, ready);
    } catch (error) {
      throw error instanceof ZenithError ? error : ioError("prepare", inProgress, error);
    }
    return ready;
  }
}

/**
 * Returns the name of a cluster's directory. It is only the version for a cluster with Zenith's
 * defaults.
 */
function directoryName({ version }: PostgresInstall, cluster: ClusterOptions): string {
  const args = clusterArgs(cluster).join(" ");
  if (args === clusterArgs({}).join(" ")) return version;
  return `${version}-${createHash("sha256").update(args).digest("hex").slice(0, 16)}`;
}

/**
 * Whether a directory is our own user's. The user that runs Postgres must not be able to change
 * what tenants are created from, because every tenant's superuser acts as that user.
 */
function isOurs(directory: string): boolean {
  const found = lstatSync(directory, { throwIfNoEntry: false });
  return found !== undefined && found.isDirectory() && found.uid === process.getuid!();
}

/** Makes a tree our own user's. For root, initdb runs as another user, to whom its files belong. */
function takeOver(path: string): void {
  using directory = ForeignDirectory.open(path);
  const { uid } = directory.stat();
  const ours = { uid: process.getuid!(), gid: process.getgid!() };
  if (uid !== ours.uid) directory.handOver(uid, ours);
}
