/**
 * Keeps a page server's tenants to what is written of their places: says that it lives, takes the
 * tenants of page servers that don't any more, and passes on those that are to be elsewhere.
 *
 * Nothing here is needed for safety. Whoever takes a tenant takes its next generation in the object
 * store, and nobody else can write there from then on (docs/decisions/0040 and 0080).
 */
import { errorMessage, ZenithError } from "../../common/errors.ts";
import { forEachOf } from "../../common/for_each_of.ts";
import type { TenantId } from "../../common/id.ts";
import { sleep } from "../../common/sleep.ts";
import { type KnownPlace, LEASE_S, type Place, type Places, type PlacesNow } from "../../places/places.ts";
import type { Logger } from "../../process/log.ts";

/** What the keeper needs of its page server. */
export interface KeptTenants {
  /** Those that are here. */
  here(): Iterable<TenantId>;
  /** The generation in which a tenant is ours; null when it is not, or not known yet. */
  generation(tenant: TenantId): number | null;
  /** Takes a tenant over from the store. @throws {ZenithError} `not_found` when it is gone */
  take(tenant: TenantId): Promise<{ readonly generation: number }>;
  /** Uploads what is left of a tenant, ends its use, and removes it here. */
  release(tenant: TenantId, why: ZenithError): Promise<void>;
}

const ROUND_MS = 1_000;
/** How long each page server leaves the dead ones' tenants to those who are to take them first. */
const RANK_WAIT_MS = 3_000;
/** How many tenants are taken over at the same time: it is the store that they wait for. */
const AT_ONCE = 16;
const MOVE_TIMEOUT_MS = 60_000;
const MOVE_POLL_MS = 200;

export class PlaceKeeper {
  readonly #places: Places;
  readonly #self: string;
  readonly #tenants: KeptTenants;
  readonly #logger: Logger;
  #now: PlacesNow | null = null;
  /** When the round began that has said last that we live. */
  #renewedAtMs = -Infinity;
  #round: Promise<void> | null = null;
  #timer: ReturnType<typeof setInterval> | undefined;
  /** Tenants that are leaving this page server by command. */
  readonly #dropped = new Set<TenantId>();
  /** Since when a tenant's page server is known to be dead, by what was written of it. */
  #deadSince = new Map<string, number>();
  /** What the last round has begun to change here. Null when that is done. */
  #changing: Promise<void> | null = null;
  #lastProblem = "";

  /** @param self the address by which others reach this page server */
  constructor(places: Places, self: string, tenants: KeptTenants, logger: Logger) {
    this.#places = places;
    this.#self = self;
    this.#tenants = tenants;
    this.#logger = logger;
  }

  start(): void {
    this.#timer = setInterval(() => void this.#refresh(), ROUND_MS);
    void this.#refresh();
  }

  /** Its tenants stay its own until the lease ends, so a quick restart moves none. */
  async stop(): Promise<void> {
    clearInterval(this.#timer);
    this.#timer = undefined;
    await this.#round;
    await this.#changing;
  }

  /**
   * Where a tenant can be used now. Null when that is not known, or it is being moved.
   *
   * A page server that stood still asks first. One that can't ask answers by what it knew: reads of
   * history are right wherever they are made.
   */
  async placeOf(tenant: TenantId): Promise<string | null> {
    if (performance.now() > this.#renewedAtMs + LEASE_S * 1000) await this.#refresh();
    const place = this.#now?.tenants.get(tenant);
    if (place !== undefined && place.server !== this.#self) return place.from === null ? place.server : null;
    return this.#tenants.generation(tenant) === null ? null : this.#self;
  }

  /** Why a tenant that is not here can't be used here. Undefined when nobody has it. */
  elsewhere(tenant: TenantId): ZenithError | undefined {
    const place = this.#now?.tenants.get(tenant);
    if (this.#now !== null && place === undefined) return undefined;
    return movedTo(tenant, place?.server ?? "another page server");
  }

  /** All tenants that have a place, or had one when etcd last answered. */
  async known(): Promise<TenantId[]> {
    // A round that runs may have asked before.
    await this.#round;
    await this.#refresh();
    return [...this.#now?.tenants.keys() ?? []];
  }

  /** Where each tenant is to be, and whether that page server lives. */
  list(): { tenant: TenantId; place: Place; isAlive: boolean }[] {
    const now = this.#now;
    return Array.from(now?.tenants ?? [], ([tenant, place]) => ({
      tenant,
      place,
      isAlive: now!.alive.has(place.server),
    }));
  }

  /**
   * Lets `work` remove a tenant from here, which is to have no place afterwards.
   *
   * @throws {ZenithError} `unavailable` when its place can't be removed; what `work` throws
   */
  async removing<T>(tenant: TenantId, work: () => Promise<T>): Promise<T> {
    this.#dropped.add(tenant);
    try {
      await this.#changing;
      const now = this.#now = await this.#places.renew(this.#self);
      const place = now.tenants.get(tenant);
      if (place !== undefined) {
        if (place.server !== this.#self) throw movedTo(tenant, place.server);
        if (!await this.#places.write(tenant, null, place)) throw isChanging(tenant);
      }
      return await work();
    } finally {
      this.#dropped.delete(tenant);
    }
  }

  /** @throws {ZenithError} `conflict` when another page server is to have the tenant */
  assertFree(tenant: TenantId): void {
    const place = this.#now?.tenants.get(tenant);
    if (place === undefined || place.server === this.#self) return;
    throw new ZenithError("conflict", `tenant ${tenant} is at the page server ${place.server}`, {
      hint: `"zenith tenant move ${tenant} ${this.#self}" brings it here`,
    });
  }

  /**
   * Moves a tenant to another page server. Resolves when it is there.
   *
   * @throws {ZenithError} `not_found`, `conflict`, `unavailable`, `timeout`
   */
  async move(tenant: TenantId, to: string): Promise<void> {
    const now = this.#now = await this.#places.renew(this.#self);
    const place = now.tenants.get(tenant);
    if (place === undefined) throw new ZenithError("not_found", `no page server has tenant ${tenant}`);
    if (!now.alive.has(to)) {
      throw new ZenithError("not_found", `no page server ${to} lives`, {
        hint: `there are ${[...now.alive].sort().join(", ")}`,
      });
    }
    if (place.server === to) return;
    const from = now.alive.has(place.server) ? place.server : null;
    if (!await this.#places.write(tenant, { server: to, from, generation: null }, place)) {
      throw isChanging(tenant);
    }
    const deadline = performance.now() + MOVE_TIMEOUT_MS;
    for (;;) {
      await sleep(MOVE_POLL_MS);
      await this.#refresh();
      const found = this.#now?.tenants.get(tenant);
      if (found?.server === to && found.generation !== null) return;
      if (found !== undefined && found.server !== to) {
        throw new ZenithError("conflict", `tenant ${tenant} could not leave ${found.server}`, {
          hint: "its log says why",
        });
      }
      if (performance.now() > deadline) {
        throw new ZenithError("timeout", `tenant ${tenant} has not arrived at ${to}`, {
          hint: "the logs of both page servers say why; it goes there as soon as it can",
        });
      }
    }
  }

  /** Runs a round, or waits for the one that runs. Never rejects. */
  #refresh(): Promise<void> {
    this.#round ??= this.#runRound().catch((error: unknown) => this.#note(error)).finally(() => {
      this.#round = null;
    });
    return this.#round;
  }

  async #runRound(): Promise<void> {
    const beganMs = performance.now();
    const now = await this.#places.renew(this.#self);
    this.#now = now;
    this.#renewedAtMs = beganMs;
    if (this.#timer === undefined) return;
    this.#changing ??= this.#settle(now).finally(() => {
      this.#changing = null;
    });
  }

  /** Makes what is here what is written. It may take longer than the lease, which goes on. */
  async #settle(now: PlacesNow): Promise<void> {
    const here = new Set(this.#tenants.here());
    const deadSince = new Map<string, number>();
    await forEachOf(new Set([...here, ...now.tenants.keys()]), AT_ONCE, async (tenant) => {
      if (this.#dropped.has(tenant)) return;
      try {
        await this.#settleOne(tenant, now, here.has(tenant), deadSince);
      } catch (error) {
        this.#note(error, tenant);
      }
    });
    this.#deadSince = deadSince;
    if (this.#now === now) this.#lastProblem = "";
  }

  async #settleOne(
    tenant: TenantId,
    { alive, tenants }: PlacesNow,
    isHere: boolean,
    deadSince: Map<string, number>,
  ): Promise<void> {
    const place = tenants.get(tenant);
    const generation = this.#tenants.generation(tenant);
    if (place === undefined) {
      // Whoever has the newest generation says where the tenant is.
      if (generation !== null) await this.#places.write(tenant, this.#mine(generation), undefined);
      return;
    }
    if (place.server === this.#self) {
      if (place.generation === null && (place.from === null || !alive.has(place.from))) {
        await this.#takeIn(tenant, place, isHere);
      } else if (!isHere && place.generation !== null) await this.#takeIn(tenant, place, false);
      return;
    }
    if (isHere) {
      await this.#passOn(tenant, place, alive);
      return;
    }
    if (alive.has(place.server)) return;
    const key = `${tenant} ${place.revision}`;
    const sinceMs = this.#deadSince.get(key) ?? performance.now();
    deadSince.set(key, sinceMs);
    if (performance.now() < sinceMs + rank(tenant, this.#self, alive) * RANK_WAIT_MS) return;
    const claim = { server: this.#self, from: null, generation: null };
    if (!await this.#places.write(tenant, claim, place, place.server)) return;
    this.#logger.warn(`the page server ${place.server} is gone: its tenant is taken over`, { tenant });
    const written = (await this.#places.renew(this.#self)).tenants.get(tenant);
    if (written?.server === this.#self) await this.#takeIn(tenant, written, false);
  }

  async #takeIn(tenant: TenantId, place: KnownPlace, isHere: boolean): Promise<void> {
    // What is here is from before it was elsewhere.
    if (isHere) await this.#tenants.release(tenant, movedTo(tenant, this.#self));
    try {
      const { generation } = await this.#tenants.take(tenant);
      await this.#places.write(tenant, this.#mine(generation), place);
    } catch (error) {
      if (!(error instanceof ZenithError) || error.kind !== "not_found") throw error;
      this.#logger.error(`the object store does not have the tenant: ${error.message}`, { tenant });
      await this.#places.write(tenant, null, place);
    }
  }

  /** Lets go of a tenant that is to be elsewhere. */
  async #passOn(tenant: TenantId, place: KnownPlace, alive: ReadonlySet<string>): Promise<void> {
    const isAsked = place.from === this.#self && place.generation === null;
    try {
      await this.#tenants.release(tenant, movedTo(tenant, place.server));
    } catch (error) {
      // It can't leave, so it stays.
      if (isAsked) {
        const generation = this.#tenants.generation(tenant);
        await this.#places.write(tenant, this.#mine(generation), place);
      }
      throw error;
    }
    this.#logger.info(`the tenant is at ${place.server} now`, { tenant });
    if (!isAsked || !alive.has(place.server)) return;
    await this.#places.write(tenant, { ...place, from: null }, place);
  }

  #mine(generation: number | null): Place {
    return { server: this.#self, from: null, generation };
  }

  /** Logs each problem once until there is another one. */
  #note(error: unknown, tenant?: TenantId): void {
    const message = errorMessage(error);
    if (message === this.#lastProblem) return;
    this.#lastProblem = message;
    this.#logger.warn(`could not keep to the tenants' places: ${message}`, {
      ...(tenant === undefined ? {} : { tenant }),
      err: error,
    });
  }
}

function movedTo(tenant: TenantId, server: string): ZenithError {
  return new ZenithError("unavailable", `tenant ${tenant} is at the page server ${server}`, {
    hint: "ask there; who knows all page servers finds it",
  });
}

function isChanging(tenant: TenantId): ZenithError {
  return new ZenithError("conflict", `the place of tenant ${tenant} has just been changed`, {
    hint: "try again",
  });
}

/**
 * How many living page servers are to take a tenant before this one: its place among them when they
 * are sorted by a hash of both names, so that a dead one's tenants go to all others.
 */
export function rank(tenant: TenantId, self: string, alive: ReadonlySet<string>): number {
  const own = weight(tenant, self);
  let before = 0;
  for (const server of alive) {
    const other = weight(tenant, server);
    if (other < own || other === own && server < self) before++;
  }
  return before;
}

/** FNV-1a, then the finalizer of MurmurHash3: names that differ in one digit end far apart. */
function weight(tenant: TenantId, server: string): number {
  let hash = 0x811c9dc5;
  for (const char of `${tenant} ${server}`) hash = Math.imul(hash ^ char.charCodeAt(0), 0x01000193);
  hash = Math.imul(hash ^ hash >>> 16, 0x85ebca6b);
  hash = Math.imul(hash ^ hash >>> 13, 0xc2b2ae35);
  return (hash ^ hash >>> 16) >>> 0;
}
