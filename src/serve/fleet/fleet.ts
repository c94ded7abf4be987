/**
 * The computes of an environment as clients need them: one that sleeps is started for whoever
 * connects, once for any number of them, and one that nobody uses is stopped.
 */
import type { Logger } from "../../process/log.ts";
import { errorMessage, ZenithError } from "../../common/errors.ts";
import type { HostPort } from "../../common/host_port.ts";
import { type ComputeName, formatComputeName, ownName } from "../../common/compute_name.ts";
import type { BranchName, TenantId } from "../../common/id.ts";
import type { Moment } from "../../common/moment.ts";
import { OneAtATime } from "../../common/one_at_a_time.ts";
import { sleep } from "../../common/sleep.ts";
import { findComputePlace, hasCompute, isUp, stopCompute } from "../../control/compute_places.ts";
import { type ComputeInfo, findCompute, findOrCreateCompute, startCompute } from "../../control/computes.ts";
import { type Environment, pageServerAddress } from "../../control/environment.ts";
import { forgetStart } from "../../control/last_start.ts";
import { findOrCreateMoment, removeMoment } from "../../control/moments.ts";
import { PageServerClient } from "../../control/page_server_client.ts";
import type { StopMode } from "../../control/stop_process.ts";
import { isInUse } from "./activity.ts";
import type { AwakeList } from "./awake.ts";
import type { Poolers } from "./poolers.ts";

/** A compute that a client is about to use. It stays awake until everybody has let go of it. */
export interface Held extends Disposable {
  readonly compute: ComputeInfo;
  readonly address: HostPort;
  /** How long the client has waited for it to start. 0 when it ran. */
  readonly wokenInMs: number;
}

export interface FleetOptions {
  /** Reads the environment as it is now. */
  readonly environment: () => Environment;
  readonly awake: AwakeList;
  readonly poolers: Poolers;
  readonly log: Logger;
  /** How long a compute may be idle, for one whose branch says nothing else. */
  readonly suspendAfterMs: number;
  /** What a branch says about that; null for nothing. 0 means for ever. */
  readonly suspendAfterOf: (tenant: TenantId, branch: BranchName) => number | null;
  /** Called when nobody uses a compute any more, right before it is stopped for that. */
  readonly beforeSleep: (compute: ComputeInfo) => Promise<void>;
  readonly afterSleep: (compute: ComputeInfo) => void;
}

interface Member {
  readonly tenant: TenantId;
  readonly name: ComputeName;
  /** Starts and stops, one at a time. */
  readonly turns: OneAtATime;
  /** Set while it is being started. */
  starting: Promise<ComputeInfo> | undefined;
  /** While it is being stopped, nobody can log in there any more. */
  isStopping: boolean;
  uses: number;
  /** By performance.now(). */
  lastUsedMs: number;
}

/**
 * How many moments of a tenant's past can be looked at together. Who connects chooses them, before
 * anybody knows who that is.
 */
const MOMENTS_MAX = 16;

/**
 * How long the end waits for computes that are being started. After that they have a process that
 * can be stopped.
 */
const STARTS_END_MS = 10_000;

/** How often to look for computes that nobody uses. */
const LOOK_MS = 1_000;

export interface FleetFigures {
  wakes: number;
  failedWakes: number;
  sleeps: number;
  /** How long wakes have taken, in all. */
  wakeMs: number;
}

export class Fleet {
  readonly figures: FleetFigures = { wakes: 0, failedWakes: 0, sleeps: 0, wakeMs: 0 };
  readonly #options: FleetOptions;
  readonly #members = new Map<string, Member>();
  readonly #ending = new AbortController();
  #looking: Promise<void> | undefined;

  constructor(options: FleetOptions) {
    this.#options = options;
    // Those that an earlier process has woken and not put to sleep.
    for (const { tenant, name } of options.awake.list()) this.#member(tenant, name);
  }

  /** Begins to put computes to sleep. */
  start(): void {
    this.#looking = this.#look();
  }

  /**
   * Stops doing so, and starts no more computes: whoever stops those that run need not fear that
   * others come after them.
   */
  async end(): Promise<void> {
    this.#ending.abort(
      new ZenithError("unavailable", "zenith serve is being stopped", {
        hint: "connect again when it is back",
      }),
    );
    await this.#looking;
    // A restore starts its compute again when it is done.
    const changes = [...this.#members.values()].map(({ turns }) => turns.settled());
    const settled = new AbortController();
    void Promise.allSettled(changes).then(() => settled.abort());
    await sleep(STARTS_END_MS, settled.signal);
  }

  /** How many clients use a compute now. */
  usesOf(tenant: TenantId, name: ComputeName): number {
    return this.#members.get(keyOf(tenant, name))?.uses ?? 0;
  }

  /** Whether it runs, or is just being started. */
  isAwake(tenant: TenantId, name: ComputeName): boolean {
    if (this.#members.get(keyOf(tenant, name))?.starting !== undefined) return true;
    return this.#running(tenant, name) !== undefined;
  }

  /**
   * Wakes the compute of a branch, unless it runs.
   *
   * @param moment a moment of the branch's past, for a compute that only reads
   * @throws {ZenithError} `not_found`, and why it could not be started
   */
  async hold(tenant: TenantId, branch: BranchName, moment?: Moment): Promise<Held> {
    const startedMs = performance.now();
    const name = moment === undefined || moment.kind === "end"
      ? ownName(branch)
      : await this.#past(tenant, branch, moment);
    const member = this.#member(tenant, name);
    member.uses++;
    try {
      const isSettled = member.starting === undefined && !member.isStopping;
      const running = isSettled ? this.#running(tenant, name) : undefined;
      const compute = running ?? await this.#wake(member);
      const wokenInMs = running === undefined ? performance.now() - startedMs : 0;
      let isHeld = true;
      return {
        compute,
        address: compute.address,
        wokenInMs,
        [Symbol.dispose]: () => {
          if (!isHeld) return;
          isHeld = false;
          this.#letGo(member);
        },
      };
    } catch (error) {
      this.#letGo(member);
      throw error;
    }
  }

  /** Stops a compute because somebody asks for it. @returns whether it ran */
  async stop(tenant: TenantId, name: ComputeName, mode: StopMode = "fast"): Promise<boolean> {
    return await this.#withMember(tenant, name, (member) => member.turns.run(() => this.#stop(member, mode)));
  }

  /**
   * Puts the computes to sleep that look at the past of a branch, but for those that somebody uses.
   * Without them, the branch can be renamed and restored. Whoever asks wakes them again.
   */
  async endUnusedMoments(tenant: TenantId, branch: BranchName): Promise<void> {
    for (const { tenant: of, name } of this.#options.awake.list()) {
      if (of !== tenant || name.branch !== branch || name.moment === null) continue;
      await this.#withMember(
        tenant,
        name,
        (member) => member.turns.run(() => this.#putToSleep(member, () => member.uses === 1)),
      );
    }
  }

  /** Keeps a compute from being started or stopped by others while `work` runs. */
  async alone<T>(tenant: TenantId, branch: BranchName, work: () => Promise<T>): Promise<T> {
    return await this.#withMember(tenant, ownName(branch), ({ turns }) => turns.run(work));
  }

  /** Forgets the computes of a tenant, or of a branch of it, that is gone. */
  forget(tenant: TenantId, branch?: BranchName): void {
    for (const [key, member] of this.#members) {
      if (member.tenant !== tenant || branch !== undefined && member.name.branch !== branch) continue;
      this.#members.delete(key);
      this.#options.awake.remove(tenant, member.name);
    }
  }

  #letGo(member: Member): void {
    member.uses--;
    member.lastUsedMs = performance.now();
    this.#forgetUnused(member);
  }

  /** Clients may name any number of branches that there aren't. */
  #forgetUnused(member: Member): void {
    const { tenant, name, uses, starting } = member;
    const key = keyOf(tenant, name);
    if (uses > 0 || starting !== undefined || this.#members.get(key) !== member) return;
    if (!this.#options.awake.has(tenant, name)) this.#members.delete(key);
  }

  async #withMember<T>(
    tenant: TenantId,
    name: ComputeName,
    work: (member: Member) => Promise<T>,
  ): Promise<T> {
    const member = this.#member(tenant, name);
    member.uses++;
    try {
      return await work(member);
    } finally {
      this.#letGo(member);
    }
  }

  #member(tenant: TenantId, name: ComputeName): Member {
    const key = keyOf(tenant, name);
    let member = this.#members.get(key);
    if (member === undefined) {
      member = {
        tenant,
        name,
        turns: new OneAtATime(),
        starting: undefined,
        isStopping: false,
        uses: 0,
        lastUsedMs: performance.now(),
      };
      this.#members.set(key, member);
    }
    return member;
  }

  /** Finds the moment's LSN, and makes the compute that looks at it. */
  async #past(tenant: TenantId, branch: BranchName, moment: Moment): Promise<ComputeName> {
    const environment = this.#options.environment();
    const others = this.#options.awake.list().filter((found) =>
      found.tenant === tenant && found.name.moment !== null
    );
    const isKnown = others.some(({ name }) => isMoment(name, branch, moment));
    if (others.length >= MOMENTS_MAX && !isKnown && !await this.#endOldestMoment(tenant)) {
      throw new ZenithError("unavailable", `${MOMENTS_MAX} moments of this tenant are looked at already`, {
        hint: "they end when nobody has looked at them for some time",
      });
    }
    await using client = new PageServerClient(pageServerAddress(environment));
    return await findOrCreateMoment(environment, client, tenant, branch, moment, undefined);
  }

  /** Puts the compute to sleep that nobody has used for longest. @returns whether there is one */
  async #endOldestMoment(tenant: TenantId): Promise<boolean> {
    const unused = [...this.#members.values()]
      .filter((member) => member.tenant === tenant && member.name.moment !== null && member.uses === 0)
      .sort((one, other) => one.lastUsedMs - other.lastUsedMs);
    for (const member of unused) {
      try {
        await member.turns.run(() => this.#putToSleep(member, () => member.uses === 0));
      } catch (error) {
        this.#options.log.warn(`could not put a compute to sleep: ${errorMessage(error)}`, { err: error });
      }
      if (!this.#options.awake.has(tenant, member.name)) return true;
    }
    return false;
  }

  #running(tenant: TenantId, name: ComputeName): ComputeInfo | undefined {
    try {
      const compute = findCompute(this.#options.environment(), tenant, name);
      return isUp(compute) ? compute : undefined;
    } catch (error) {
      if (error instanceof ZenithError && error.kind === "not_found") return undefined;
      throw error;
    }
  }

  #wake(member: Member): Promise<ComputeInfo> {
    member.starting ??= member.turns.run(() => this.#start(member)).finally(() => {
      member.starting = undefined;
    });
    return member.starting;
  }

  async #start(member: Member): Promise<ComputeInfo> {
    const { tenant, name } = member;
    const { awake, log, environment: read } = this.#options;
    const environment = read();
    const { signal } = this.#ending;
    signal.throwIfAborted();
    const startedMs = performance.now();
    await using client = new PageServerClient(pageServerAddress(environment));
    const { branch, moment } = name;
    const compute = await findOrCreateCompute(
      environment,
      client,
      tenant,
      branch,
      () => client.branch(tenant, branch),
      { moment },
    );
    if (isUp(compute)) return compute;
    const what = { tenant, compute: formatComputeName(name) };
    try {
      // Noted first: whoever comes after a kill has to know that it may go to sleep.
      awake.add(tenant, name);
      await startCompute(environment, compute, { signal });
    } catch (error) {
      awake.remove(tenant, name);
      signal.throwIfAborted();
      this.figures.failedWakes++;
      log.warn("could not wake a compute", { ...what, err: error });
      throw error;
    }
    const wakeMs = performance.now() - startedMs;
    this.figures.wakes++;
    this.figures.wakeMs += wakeMs;
    member.lastUsedMs = performance.now();
    log.info("woke a compute", { ...what, ms: Math.round(wakeMs) });
    return findCompute(environment, tenant, name);
  }

  async #stop(member: Member, mode: StopMode): Promise<boolean> {
    member.isStopping = true;
    try {
      return await this.#end(member, mode);
    } finally {
      member.isStopping = false;
    }
  }

  async #end({ tenant, name }: Member, mode: StopMode): Promise<boolean> {
    const environment = this.#options.environment();
    if (!hasCompute(environment.paths.compute(tenant, name))) return false;
    const compute = findComputePlace(environment, tenant, name);
    await this.#options.poolers.end(compute);
    const ran = await stopCompute(compute, mode);
    forgetStart(compute.paths);
    this.#options.awake.remove(tenant, name);
    if (name.moment !== null) await removeMoment(environment, compute);
    return ran;
  }

  async #look(): Promise<void> {
    const { signal } = this.#ending;
    const { awake, log, poolers } = this.#options;
    while (!signal.aborted) {
      await sleep(LOOK_MS, signal);
      await poolers.endUnused().catch((error) => {
        log.warn(`could not end a PgBouncer: ${errorMessage(error)}`, { err: error });
      });
      for (const { tenant, name } of awake.list()) {
        if (signal.aborted) return;
        const member = this.#member(tenant, name);
        if (!this.#isIdle(member)) continue;
        await member.turns.run(() => this.#putToSleep(member, () => this.#isIdle(member))).catch((error) => {
          log.warn(`could not put a compute to sleep: ${errorMessage(error)}`, {
            tenant,
            compute: formatComputeName(name),
            err: error,
          });
          member.lastUsedMs = performance.now();
        });
        this.#forgetUnused(member);
      }
    }
  }

  #isIdle({ tenant, name, uses, lastUsedMs }: Member): boolean {
    const limitMs = this.#options.suspendAfterOf(tenant, name.branch) ?? this.#options.suspendAfterMs;
    return uses === 0 && limitMs > 0 && performance.now() - lastUsedMs >= limitMs;
  }

  /** @param isDue asked again after all that takes time */
  async #putToSleep(member: Member, isDue: () => boolean): Promise<void> {
    const { tenant, name } = member;
    if (!isDue()) return;
    const compute = this.#running(tenant, name);
    if (compute === undefined) {
      // Somebody else has stopped it.
      this.#options.awake.remove(tenant, name);
      return;
    }
    // The sessions that it keeps open are nobody's.
    await this.#options.poolers.end(compute);
    if (await isInUse(compute)) {
      member.lastUsedMs = performance.now();
      return;
    }
    await this.#options.beforeSleep(compute);
    if (!isDue()) return;
    await this.#stop(member, "fast");
    this.#options.afterSleep(compute);
    this.figures.sleeps++;
    this.#options.log.info("put a compute to sleep", { tenant, compute: formatComputeName(name) });
  }
}

/** Whether a compute is known to look at that moment. A time is not known to be an LSN. */
function isMoment(name: ComputeName, branch: BranchName, moment: Moment): boolean {
  return moment.kind === "lsn" && name.branch === branch && name.moment === moment.lsn;
}

function keyOf(tenant: TenantId, name: ComputeName): string {
  return `${tenant}/${formatComputeName(name)}`;
}
