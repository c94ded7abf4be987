/**
 * The PgBouncers of an environment: one for each compute that a client wants through a pooler,
 * while the compute is up and somebody has used the pooler of late.
 */
import { createHash } from "node:crypto";
import { chmodSync, existsSync, mkdirSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { HostPort } from "../../common/host_port.ts";
import type { ComputeInfo } from "../../control/computes.ts";
import { PgError, SQLSTATE_FEATURE_NOT_SUPPORTED } from "../../pgwire/sqlstate.ts";
import type { Logger } from "../../process/log.ts";
import { runningProcess } from "../../process/pid_file.ts";
import { findPgBouncer, killLeftOver, type PgBouncer, startPgBouncer } from "./pgbouncer.ts";

/** One that nobody has used for so long is ended. The next client starts it again in some 20 ms. */
const UNUSED_MS = 60_000;

export interface PoolersOptions {
  /** For a directory for each of them. */
  readonly directory: string;
  readonly log: Logger;
  /** Sessions of Postgres for each role and database. */
  readonly poolSize: number;
  readonly maxClients: number;
  /** Where PgBouncer is; undefined when it isn't installed. */
  readonly find?: () => string | undefined;
}

/** A pooler that a client is about to use. It stays until everybody has let go of it. */
export interface HeldPooler extends Disposable {
  readonly address: HostPort;
}

interface Pooler {
  readonly compute: ComputeInfo;
  readonly started: Promise<PgBouncer>;
  uses: number;
  /** By performance.now(). */
  lastUsedMs: number;
}

export class Poolers {
  readonly #options: PoolersOptions;
  /** By the directory of their compute. */
  readonly #poolers = new Map<string, Pooler>();

  constructor(options: PoolersOptions) {
    this.#options = options;
    const { directory } = options;
    if (!existsSync(directory)) return;
    for (const name of readdirSync(directory)) killLeftOver(join(directory, name));
    rmSync(directory, { recursive: true, force: true });
  }

  /** How many run. */
  get count(): number {
    return this.#poolers.size;
  }

  /** @throws {PgError} `0A000` when PgBouncer isn't installed */
  assertInstalled(): string {
    const { find = findPgBouncer } = this.#options;
    const program = find();
    if (program !== undefined) return program;
    throw new PgError(
      SQLSTATE_FEATURE_NOT_SUPPORTED,
      "connections through a pooler need PgBouncer, which this server does not have",
      {
        severity: "FATAL",
        hint:
          "install it on the server (Debian: apt-get install pgbouncer), or take -pooler out of the host name",
      },
    );
  }

  /**
   * The pooler in front of a compute that is up, started if need be.
   *
   * @throws {PgError} `0A000` when PgBouncer isn't installed; {@link ZenithError} why it does not
   *   start
   */
  async hold(compute: ComputeInfo): Promise<HeldPooler> {
    const key = compute.paths.dir;
    const pooler = this.#poolers.get(key) ?? this.#start(key, compute);
    pooler.uses++;
    const letGo = (): void => {
      pooler.uses--;
      pooler.lastUsedMs = performance.now();
    };
    try {
      const { address } = await pooler.started;
      let isHeld = true;
      return {
        address,
        [Symbol.dispose]: () => {
          if (isHeld) letGo();
          isHeld = false;
        },
      };
    } catch (error) {
      letGo();
      throw error;
    }
  }

  /** Ends the pooler of a compute that is going to sleep. */
  async end({ paths }: Pick<ComputeInfo, "paths">): Promise<void> {
    const pooler = this.#poolers.get(paths.dir);
    this.#poolers.delete(paths.dir);
    await (await pooler?.started.catch(() => undefined))?.kill();
  }

  /**
   * Ends those that nobody uses, and those whose compute somebody else has stopped: what waits
   * there waits in vain.
   */
  async endUnused(): Promise<void> {
    // Not of a copy: while one ends, another may be replaced by one that somebody uses.
    for (const { compute, uses, lastUsedMs } of this.#poolers.values()) {
      const isUnused = uses === 0 && performance.now() - lastUsedMs >= UNUSED_MS;
      if (isUnused || runningProcess(compute.paths.pidFile) === undefined) await this.end(compute);
    }
  }

  async close(): Promise<void> {
    await Promise.all([...this.#poolers.values()].map(({ compute }) => this.end(compute)));
  }

  #start(key: string, compute: ComputeInfo): Pooler {
    const { log, poolSize, maxClients } = this.#options;
    const program = this.assertInstalled();
    const { directory: all } = this.#options;
    // The users that Postgres runs as pass through to the directory that is their own.
    mkdirSync(all, { recursive: true });
    chmodSync(all, 0o711);
    const directory = join(all, createHash("sha256").update(key).digest("hex").slice(0, 16));
    const started = startPgBouncer({ program, directory, compute, poolSize, maxClients });
    const pooler: Pooler = { compute, started, uses: 0, lastUsedMs: performance.now() };
    this.#poolers.set(key, pooler);
    const forget = (): void => {
      if (this.#poolers.get(key) === pooler) this.#poolers.delete(key);
    };
    started.then(async ({ ended }) => {
      log.info("started a PgBouncer", { compute: key });
      await ended;
      // Whoever comes next starts another.
      if (this.#poolers.get(key) === pooler) log.warn("a PgBouncer has ended", { compute: key });
      forget();
    }, forget);
    return pooler;
  }
}
