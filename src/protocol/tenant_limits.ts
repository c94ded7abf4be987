/**
 * What each tenant may take of a server. The limits are in files: `limits/default.toml` in the
 * server's directory for all tenants, `limits/<tenant>.toml` for one.
 */
import { mkdirSync, rmSync } from "node:fs";
import {
  type InferOutput,
  integer,
  literal,
  minValue,
  number,
  optional,
  pipe,
  strictObject,
  union,
} from "valibot";
import type { Principal } from "../auth/claims.ts";
import { withIoErrors, ZenithError } from "../common/errors.ts";
import type { TenantId } from "../common/id.ts";
import type { LimitsPaths } from "../common/paths.ts";
import { readTomlFile, writeTomlFile } from "../common/toml.ts";
import type { Logger } from "../process/log.ts";
import type { Session } from "../pgwire/session.ts";
import { PgError, SQLSTATE_TOO_MANY_CONNECTIONS } from "../pgwire/sqlstate.ts";
import { WalRate } from "./wal_rate.ts";

/** What can be limited, and how a message calls it. */
export const LIMITS = {
  /** Connections with tokens of the tenant. */
  connections: "connections",
  /** Commands with such tokens, and page requests that wait for their LSN, together. */
  requests: "requests in flight",
  branches: "branches",
  /** Timelines on which a Postgres runs. */
  computes: "running computes",
  /** What is on the server's disk, in bytes. Beyond it, WAL comes in at a trickle. */
  bytes: "bytes on disk",
  /** How much WAL is taken in per second, in bytes. */
  wal_bytes_per_s: "bytes of WAL per second",
} as const;

export type LimitName = keyof typeof LIMITS;

export const LIMIT_NAMES = Object.keys(LIMITS) as LimitName[];

/** The text for no limit at all, where there is one by default. */
const NO_LIMIT = "none";

const limit = optional(union([pipe(number(), integer(), minValue(0)), literal(NO_LIMIT)]));

const LimitsSchema = strictObject(
  {
    connections: limit,
    requests: limit,
    branches: limit,
    computes: limit,
    bytes: limit,
    wal_bytes_per_s: limit,
  } satisfies Record<LimitName, typeof limit>,
);

/** A file's limits. What it leaves out is as by default. */
type Limits = InferOutput<typeof LimitsSchema>;

/** A change of one tenant's limits; `default` takes one back. */
export type LimitChanges = { readonly [K in LimitName]?: number | typeof NO_LIMIT | "default" | undefined };

const COMMENT = "What one tenant may take of this server. Changed by its command tenant_set_limits.";

/** The use of a tenant that nobody has asked about yet. */
interface Use {
  connections: number;
  requests: number;
}

/** How a server knows how much of something a tenant has that only it can count. */
export type Measures = { readonly [K in Exclude<LimitName, keyof Use>]?: (tenant: TenantId) => number };

/** How one limit is reported. */
export interface LimitState {
  /** Null when there is none. */
  readonly limit: number | null;
  /** Null when this server doesn't count it. */
  readonly used: number | null;
}

/**
 * A tenant whose WAL is taken in more slowly than it comes, because of its limit of bytes or of
 * WAL.
 */
interface HeldBack {
  readonly tenant_id: TenantId;
  readonly by: "bytes" | "wal_bytes_per_s";
  readonly limit: number;
}

export class TenantLimits {
  readonly #paths: LimitsPaths | undefined;
  readonly #logger: Logger | undefined;
  readonly #defaults: Limits;
  /** What is in the tenants' files, of those that were asked for. */
  readonly #own = new Map<TenantId, Limits>();
  readonly #uses = new Map<TenantId, Use>();
  readonly #counted = new Map<Session, TenantId>();
  readonly #rates = new Map<TenantId, WalRate>();
  /** When a tenant was last slowed down, by what, and when the log last had that. */
  readonly #slowed = new Map<TenantId, { by: HeldBack["by"]; lastMs: number; loggedMs: number }>();
  readonly #measures: Measures;

  /**
   * @param paths undefined when nothing is limited
   * @throws {ZenithError} `invalid_argument`, naming the file, when it is wrong; `io`
   */
  constructor(paths?: LimitsPaths, logger?: Logger, measures: Measures = {}) {
    this.#paths = paths;
    this.#logger = logger;
    this.#measures = measures;
    this.#defaults = paths === undefined ? {} : readLimits(paths.defaults);
  }

  /** @returns null when there is none @throws {ZenithError} as the constructor */
  limit(tenant: TenantId, name: LimitName): number | null {
    const value = this.#ownOf(tenant)[name] ?? this.#defaults[name];
    return value === undefined || value === NO_LIMIT ? null : value;
  }

  #ownOf(tenant: TenantId): Limits {
    let own = this.#own.get(tenant);
    if (own === undefined) {
      own = this.#paths === undefined ? {} : readLimits(this.#paths.of(tenant));
      this.#own.set(tenant, own);
    }
    return own;
  }

  /**
   * Changes a tenant's limits, for this server. What exceeds them already goes on.
   *
   * @throws {ZenithError} `io`, `disk_full`
   */
  change(tenant: TenantId, changes: LimitChanges): void {
    const next: Limits = { ...this.#ownOf(tenant) };
    for (const name of LIMIT_NAMES) {
      const value = changes[name];
      if (value === "default") delete next[name];
      else if (value !== undefined) next[name] = value;
    }
    this.#save(tenant, next);
    this.#own.set(tenant, next);
  }

  /** Forgets the limits of a tenant that is gone. @throws {ZenithError} `io` */
  forget(tenant: TenantId): void {
    this.#save(tenant, {});
    this.#own.delete(tenant);
    this.#rates.delete(tenant);
    this.#slowed.delete(tenant);
  }

  #save(tenant: TenantId, limits: Limits): void {
    const paths = this.#paths;
    if (paths === undefined) return;
    const path = paths.of(tenant);
    withIoErrors("write", path, () => {
      if (Object.keys(limits).length === 0) {
        rmSync(path, { force: true });
      } else {
        mkdirSync(paths.dir, { recursive: true, mode: 0o700 });
        writeTomlFile(path, COMMENT, limits);
      }
    });
  }

  /** Returns a tenant's limits and what it uses. */
  state(tenant: TenantId): Record<LimitName, LimitState> {
    const use = this.#uses.get(tenant);
    const used: Readonly<Record<string, number | null>> = {
      connections: use?.connections ?? 0,
      requests: use?.requests ?? 0,
    };
    const states = LIMIT_NAMES.map((name) => {
      const measured = used[name] ?? this.#measures[name as keyof Measures]?.(tenant) ?? null;
      return [name, { limit: this.limit(tenant, name), used: measured }];
    });
    return Object.fromEntries(states);
  }

  /**
   * @param more how many the caller is about to add
   * @throws {ZenithError} `limit_exceeded` when the tenant may not have them
   */
  assertRoom(tenant: TenantId, name: Exclude<LimitName, keyof Use>, more: number): void {
    const limit = this.limit(tenant, name);
    if (limit === null) return;
    const used = this.#measures[name]?.(tenant) ?? 0;
    if (used + more > limit) throw exceeded(tenant, name, limit, used);
  }

  /** Counts a connection. @throws {PgError} when its tenant has too many */
  admit(session: Session): void {
    const tenant = (session.identity as Principal | undefined)?.tenant;
    if (tenant === undefined) return;
    const use = this.#useOf(tenant);
    const limit = this.limit(tenant, "connections");
    if (limit !== null && use.connections >= limit) {
      const { message, hint } = exceeded(tenant, "connections", limit, use.connections);
      throw new PgError(SQLSTATE_TOO_MANY_CONNECTIONS, message, { severity: "FATAL", hint: hint! });
    }
    use.connections++;
    this.#counted.set(session, tenant);
  }

  /** The connection is closed. */
  leave(session: Session): void {
    const tenant = this.#counted.get(session);
    if (tenant === undefined) return;
    this.#counted.delete(session);
    this.#useOf(tenant).connections--;
    this.#tidy(tenant);
  }

  /**
   * Counts a request until the result is disposed of.
   *
   * @throws {ZenithError} `limit_exceeded` when too many of its tenant are in flight
   */
  begin(tenant: TenantId): Disposable {
    const use = this.#useOf(tenant);
    const limit = this.limit(tenant, "requests");
    if (limit !== null && use.requests >= limit) throw exceeded(tenant, "requests", limit, use.requests);
    use.requests++;
    return {
      [Symbol.dispose]: () => {
        use.requests--;
        this.#tidy(tenant);
      },
    };
  }

  #useOf(tenant: TenantId): Use {
    let use = this.#uses.get(tenant);
    if (use === undefined) this.#uses.set(tenant, use = { connections: 0, requests: 0 });
    return use;
  }

  #tidy(tenant: TenantId): void {
    const { connections, requests } = this.#useOf(tenant);
    if (connections === 0 && requests === 0) this.#uses.delete(tenant);
  }

  /**
   * Notes that WAL of the tenant has come in.
   *
   * @param nowMs by a clock that never goes back
   * @returns for how long to take nothing more, in milliseconds
   */
  walTaken(tenant: TenantId, bytes: number, nowMs: number): number {
    const perSecond = this.limit(tenant, "wal_bytes_per_s");
    const mostBytes = this.limit(tenant, "bytes");
    if (perSecond === null && mostBytes === null) return 0;
    let rate = this.#rates.get(tenant);
    if (rate === undefined) this.#rates.set(tenant, rate = new WalRate());
    const isFull = mostBytes !== null && (this.#measures.bytes?.(tenant) ?? 0) > mostBytes;
    const pauseMs = rate.take(bytes, isFull ? TRICKLE_BYTES_PER_S : perSecond, nowMs);
    if (pauseMs === 0) return 0;
    const before = this.#slowed.get(tenant);
    const isNews = before === undefined || nowMs - before.loggedMs >= LOG_INTERVAL_MS;
    this.#slowed.set(tenant, {
      by: isFull ? "bytes" : "wal_bytes_per_s",
      lastMs: nowMs + pauseMs,
      loggedMs: isNews ? nowMs : before.loggedMs,
    });
    if (isNews) {
      const why = isFull
        ? `has used the ${mostBytes} bytes on disk that it may: its WAL comes in at ${TRICKLE_BYTES_PER_S} bytes/s`
        : `writes more WAL than the ${perSecond} bytes/s that it may: it is slowed down`;
      this.#logger?.warn(`tenant ${tenant} ${why}`, { tenant });
    }
    return pauseMs;
  }

  /**
   * Returns the tenants that were slowed down lately.
   *
   * @param nowMs by the clock of {@link walTaken}
   */
  heldBack(nowMs: number): HeldBack[] {
    const found: HeldBack[] = [];
    for (const [tenant, { by, lastMs }] of this.#slowed) {
      const limit = this.limit(tenant, by);
      if (limit !== null && nowMs - lastMs < HELD_BACK_MS) found.push({ tenant_id: tenant, by, limit });
    }
    return found;
  }
}

/** The minimum time between two lines of the log about a tenant that is slowed down. */
const LOG_INTERVAL_MS = 60_000;

/** A tenant that was not slowed down for this long counts as one that is not. */
const HELD_BACK_MS = 10_000;

/** What comes in of a tenant that has used up its disk: enough to delete rows, or to vacuum. */
export const TRICKLE_BYTES_PER_S = 64 << 10;

function readLimits(path: string): Limits {
  try {
    return readTomlFile(path, LimitsSchema);
  } catch (error) {
    if (error instanceof ZenithError && error.kind === "not_found") return {};
    throw error;
  }
}

function exceeded(tenant: TenantId, name: LimitName, limit: number, used: number): ZenithError {
  return new ZenithError(
    "limit_exceeded",
    `tenant ${tenant} may have no more ${LIMITS[name]}: it has ${used}, its limit is ${limit}`,
    {
      hint: `make room, or have the operator raise it: "zenith tenant limits ${tenant} --${
        OPTION[name]
      } <n>"`,
    },
  );
}

/** The option of `zenith tenant limits` for each. */
export const OPTION: Readonly<Record<LimitName, string>> = {
  connections: "connections",
  requests: "requests",
  branches: "branches",
  computes: "computes",
  bytes: "bytes",
  wal_bytes_per_s: "wal-rate",
};
