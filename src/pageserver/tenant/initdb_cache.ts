import { lstatSync } from "node:fs";
import { join } from "node:path";
import type { Disk } from "../../common/disk.ts";
import { ioError, ZenithError } from "../../common/errors.ts";
import { ForeignDirectory, removeForeignTree } from "../../common/foreign_directory.ts";
import type { PageServerPaths } from "../../common/paths.ts";
import { findNewestPostgres, findPostgres, type PostgresInstall } from "../../pg_install/find_postgres.ts";
import { runInitdb, ZENITH_SUPERUSER } from "../../pg_install/initdb.ts";

/**
 * The data directories that new tenants are made from, one for each PostgreSQL version: initdb runs
 * once per page server and version, not once per tenant.
 */
export class InitdbCache {
  readonly #disk: Disk;
  readonly #paths: PageServerPaths;
  readonly #pgDistribDir: string | undefined;
  /** By version. */
  readonly #running = new Map<string, Promise<string>>();

  constructor(disk: Disk, paths: PageServerPaths, pgDistribDir: string | undefined) {
    this.#disk = disk;
    this.#paths = paths;
    this.#pgDistribDir = pgDistribDir;
  }

  /**
   * @param major null for the newest that there is
   * @returns the data directory
   * @throws {ZenithError} when there is no usable PostgreSQL of that major, or initdb fails
   */
  get(major: number | null): Promise<string> {
    const options = { distribDir: this.#pgDistribDir };
    const install = major === null ? findNewestPostgres(options) : findPostgres(major, options);
    const running = this.#running.get(install.version) ?? this.#make(install).finally(() => {
      this.#running.delete(install.version);
    });
    this.#running.set(install.version, running);
    return running;
  }

  async #make(install: PostgresInstall): Promise<string> {
    const ready = join(this.#paths.initdbCache, install.version);
    if (isOurs(ready)) return ready;
    const inProgress = `${ready}.running`;
    try {
      removeForeignTree(inProgress);
      removeForeignTree(ready);
      await runInitdb({ install, dir: inProgress, superuser: ZENITH_SUPERUSER });
      takeOver(inProgress);
      // The cache is no user's data: after a crash that tears it, reading it fails, and removing it
      // is the remedy.
      this.#disk.renameSync(inProgress, ready);
    } catch (error) {
      throw error instanceof ZenithError ? error : ioError("prepare", inProgress, error);
    }
    return ready;
  }
}

/**
 * What tenants are made from must be nobody's to change who runs a Postgres here: that user is
 * every tenant's superuser's.
 */
function isOurs(directory: string): boolean {
  const found = lstatSync(directory, { throwIfNoEntry: false });
  return found !== undefined && found.isDirectory() && found.uid === process.getuid!();
}

/** The files of initdb, which doesn't run as root, become root's. */
function takeOver(path: string): void {
  using directory = ForeignDirectory.open(path);
  const { uid } = directory.stat();
  const ours = { uid: process.getuid!(), gid: process.getgid!() };
  if (uid !== ours.uid) directory.handOver(uid, ours);
}
