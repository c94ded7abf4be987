/**
 * The way from a client to its Postgres: finds out which one it wants, lets it prove who it is,
 * wakes the compute, and logs in there. Every way in takes it: TCP, WebSocket and HTTP.
 */
import { existsSync } from "node:fs";
import { ownName } from "../../common/compute_name.ts";
import { ZenithError } from "../../common/errors.ts";
import { sleep } from "../../common/sleep.ts";
import type { BranchName, TenantId } from "../../common/id.ts";
import type { Environment } from "../../control/environment.ts";
import { hasCompute } from "../../control/compute_places.ts";
import { findCompute } from "../../control/computes.ts";
import type { HostPort } from "../../common/host_port.ts";
import { ZENITH_SUPERUSER } from "../../pg_install/initdb.ts";
import { PgError, SQLSTATE_FEATURE_NOT_SUPPORTED } from "../../pgwire/sqlstate.ts";
import type { ScramKeys } from "../../pgwire/client_auth.ts";
import type { Fleet, Held } from "../fleet/fleet.ts";
import type { HeldPooler, Poolers } from "../fleet/poolers.ts";
import { isAllowed } from "../state/ip_list.ts";
import { type Backend, logIn } from "./backend.ts";
import type { Destination } from "./destination.ts";
import { mockVerifier, type Verifier } from "./scram_server.ts";
import type { Verifiers } from "./verifiers.ts";

/** How a client proves to know the password of this verifier. */
export type Prove = (verifier: Verifier, user: string) => Promise<ScramKeys>;

/** A client's session: its Postgres, which stays awake until it is disposed of. */
export interface Opened extends Disposable {
  readonly backend: Backend;
  /** Where it is, and where its commands are canceled. */
  readonly address: HostPort;
}

export interface DoorOptions {
  readonly environment: () => Environment;
  readonly fleet: Fleet;
  readonly poolers: Poolers;
  readonly verifiers: Verifiers;
  /** The addresses and networks from which a tenant lets clients in; empty for all. */
  readonly allowedIps: (tenant: TenantId) => readonly string[];
}

/** How long a Postgres that is just starting or stopping is tried. */
const BUSY_TIMEOUT_MS = 30_000;
const BUSY_POLL_MS = 25;

/** admin_shutdown, crash_shutdown, cannot_connect_now. */
const BUSY: ReadonlySet<string> = new Set(["57P01", "57P02", "57P03"]);

export class Door {
  readonly #options: DoorOptions;

  constructor(options: DoorOptions) {
    this.#options = options;
  }

  /** @param address the client's, without its port @throws when the tenant does not let it in */
  admit(tenant: TenantId, address: string): void {
    const allowed = this.#options.allowedIps(tenant);
    if (allowed.length === 0 || isAllowed(address, allowed)) return;
    throw new PgError("28000", `address ${address} is not among those that this project lets in`, {
      severity: "FATAL",
    });
  }

  /**
   * @param prove is called once
   * @throws {PgError} `28P01`; what Postgres says; {@link ZenithError} why it can't be woken
   */
  async open(destination: Destination, prove: Prove): Promise<Opened> {
    const { tenant, branch, moment, params } = destination;
    const user = params.get("user")!;
    const { poolers, verifiers } = this.#options;
    // There is one compute per moment, and few look at it.
    const isPooled = destination.isPooled && moment === undefined;
    if (isPooled) {
      poolers.assertInstalled();
      assertPoolable(user);
    }
    let pooler: HeldPooler | undefined;
    const slot: { held?: Held | undefined } = {};
    const letGo = (): void => {
      pooler?.[Symbol.dispose]();
      slot.held?.[Symbol.dispose]();
    };
    try {
      let verifier = moment === undefined ? this.#ofSleeping(tenant, branch, user) : undefined;
      if (verifier === undefined) {
        verifier = await this.#onAwake(
          destination,
          slot,
          ({ compute }) => verifiers.ofRunning(user, compute),
        );
      }
      // A role without a password is asked for one too: nobody learns that there is none.
      const keys = await prove(verifier ?? mockVerifier(user, `${tenant}/${branch}`), user);
      const { backend, address } = await this.#onAwake(destination, slot, async (held) => {
        pooler?.[Symbol.dispose]();
        pooler = isPooled ? await poolers.hold(held.compute) : undefined;
        const { address } = pooler ?? held;
        return { address, backend: await logIn(address, params, keys) };
      });
      return { backend, address, [Symbol.dispose]: letGo };
    } catch (error) {
      letGo();
      throw error;
    }
  }

  /**
   * Takes a step at the compute when that runs. It may be just starting, or be stopped by somebody
   * in the meantime: then it is woken again.
   */
  async #onAwake<T>(
    { tenant, branch, moment }: Destination,
    slot: { held?: Held | undefined },
    step: (held: Held) => Promise<T>,
  ): Promise<T> {
    const { fleet } = this.#options;
    const deadline = performance.now() + BUSY_TIMEOUT_MS;
    for (;;) {
      slot.held ??= await fleet.hold(tenant, branch, moment);
      try {
        return await step(slot.held);
      } catch (error) {
        if (!isBusy(error) || performance.now() > deadline) throw error;
      }
      await sleep(BUSY_POLL_MS);
      if (fleet.isAwake(tenant, slot.held.compute)) continue;
      slot.held[Symbol.dispose]();
      slot.held = undefined;
    }
  }

  #ofSleeping(tenant: TenantId, branch: BranchName, role: string): Verifier | null | undefined {
    const { fleet, environment, verifiers } = this.#options;
    if (fleet.isAwake(tenant, ownName(branch))) return undefined;
    const now = environment();
    const compute = now.paths.compute(tenant, branch);
    // A tenant that has never had a compute here has no passwords yet, and may not exist.
    if (!existsSync(compute.pgpass)) return undefined;
    const kept = verifiers.ofKept(role, compute.pgpass);
    if (kept !== undefined || !hasCompute(compute)) return kept;
    const { timeline } = findCompute(now, tenant, branch).identity;
    return verifiers.ofSleeping({ timeline, role }, compute);
  }
}

/** @throws {PgError} for the superuser, with whose password the pooler looks up the others' */
function assertPoolable(user: string): void {
  if (user !== ZENITH_SUPERUSER) return;
  throw new PgError(SQLSTATE_FEATURE_NOT_SUPPORTED, `${user} can't connect through the pooler`, {
    severity: "FATAL",
    hint: "take -pooler out of the host name",
  });
}

/** Whether a Postgres starts or stops, so that it is worth another try. */
function isBusy(error: unknown): boolean {
  if (error instanceof PgError) return BUSY.has(error.sqlstate);
  return error instanceof ZenithError && error.kind === "unavailable";
}
