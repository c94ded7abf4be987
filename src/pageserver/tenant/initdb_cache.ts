import { join } from "node:path";
import type { Disk } from "../../common/disk.ts";
import { ioError, ZenithError } from "../../common/errors.ts";
import type { PageServerPaths } from "../../common/paths.ts";
import { findPostgres } from "../../pg_install/find_postgres.ts";
import { runInitdb, ZENITH_SUPERUSER } from "../../pg_install/initdb.ts";

/**
 * The data directory that new tenants are made from: initdb runs once per page server and PostgreSQL version, not once
 * per tenant.
 */
export class InitdbCache {
  readonly #disk: Disk;
  readonly #paths: PageServerPaths;
  readonly #pgDistribDir: string | undefined;
  #running: Promise<string> | null = null;

  constructor(disk: Disk, paths: PageServerPaths, pgDistribDir: string | undefined) {
    this.#disk = disk;
    this.#paths = paths;
    this.#pgDistribDir = pgDistribDir;
  }

  /**
   * @returns the data directory
   * @throws {ZenithError} when there is no usable PostgreSQL, or initdb fails
   */
  get(): Promise<string> {
    this.#running ??= this.#make().finally(() => {
      this.#running = null;
    });
    return this.#running;
  }

  async #make(): Promise<string> {
    const install = findPostgres({ distribDir: this.#pgDistribDir });
    const ready = join(this.#paths.initdbCache, install.version);
    if (this.#disk.statSync(ready) !== null) return ready;
    const inProgress = `${ready}.running`;
    try {
      this.#disk.removeTreeSync(inProgress);
      await runInitdb({ install, dir: inProgress, superuser: ZENITH_SUPERUSER });
      // The cache is no user's data: after a crash that tears it, reading it fails, and removing it is the remedy.
      this.#disk.renameSync(inProgress, ready);
    } catch (error) {
      throw error instanceof ZenithError ? error : ioError("prepare", inProgress, error);
    }
    return ready;
  }
}
