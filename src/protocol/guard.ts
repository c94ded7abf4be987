/**
 * Decides what each client of a server may do. It is the only place that does: every command passes
 * through it, and the management contract says what each needs.
 */
import { BlockList, isIP, isIPv6 } from "node:net";
import type { Principal, Scope } from "../auth/claims.ts";
import type { AuditEntry } from "../process/audit_log.ts";
import type { Verifier } from "../auth/verifier.ts";
import { errorMessage, ZenithError } from "../common/errors.ts";
import { formatHostPort, type HostPort } from "../common/host_port.ts";
import type { Negotiation } from "../pgwire/negotiation.ts";
import type { PgServer } from "../pgwire/server.ts";
import { ServerTls, type TlsFiles } from "../pgwire/tls.ts";
import { PgError, SQLSTATE_INVALID_PASSWORD } from "../pgwire/sqlstate.ts";
import {
  type Access,
  type Args,
  type ArgValues,
  type Named,
  namedBy,
  type Operation,
  plainArgs,
} from "./operation.ts";
import { tokenNegotiation } from "./token_negotiation.ts";

/**
 * What a command of PostgreSQL's replication protocol needs. `wal`: to read committed WAL.
 * `confirm`: to say how much of it is safe elsewhere, so that a safekeeper may remove it.
 */
type ReplicationAccess = "wal" | "confirm";

/** By which tokens a client gets each access. */
const MAY: Readonly<Record<Access | ReplicationAccess, ReadonlySet<Scope>>> = {
  admin: new Set(["admin"]),
  tenant: new Set(["admin", "tenant"]),
  read: new Set(["admin", "tenant", "read", "compute"]),
  compute: new Set(["admin", "tenant", "compute"]),
  send: new Set(["admin", "tenant", "compute", "safekeeper"]),
  find: new Set(["admin", "tenant", "read", "compute", "safekeeper"]),
  wal: new Set(["admin", "tenant", "read", "compute", "pageserver"]),
  confirm: new Set(["admin", "tenant", "compute", "pageserver"]),
};

/** Tokens of these scopes are of the installation, so they are not restricted to a tenant. */
const OF_ALL_TENANTS: ReadonlySet<Scope> = new Set(["admin", "safekeeper", "pageserver"]);

/** The client of a server that asks for no tokens. */
const ANYBODY: Principal = { scope: "admin", jti: "none", sub: "anybody", iat: 0, kid: "" };

/** How often to look for tokens that are no longer valid, in milliseconds. */
const LOOK_MS = 1_000;

export type { TlsFiles };

/** Where the audit log goes. */
interface AuditSink {
  write(entry: AuditEntry): void;
}

/** Who has sent a command: a session, or a request over HTTP. */
export interface Client {
  /** What {@link Guard.negotiation} or {@link Guard.identify} has found out. */
  readonly identity: unknown;
  /** `address:port`. */
  readonly remoteAddress: string;
}

export class Guard {
  /** Asks clients who they are. */
  readonly negotiation: Negotiation;
  /** Whether clients must have tokens. */
  readonly asksForTokens: boolean;
  readonly #verifier: Verifier | undefined;
  readonly #audit: AuditSink | undefined;

  private constructor(verifier?: Verifier, audit?: AuditSink, tls?: ServerTls) {
    this.#verifier = verifier;
    this.#audit = audit;
    this.asksForTokens = verifier !== undefined;
    this.negotiation = verifier === undefined
      ? { authenticate: () => ANYBODY }
      : tokenNegotiation(verifier, tls);
  }

  /**
   * A guard that asks for tokens.
   *
   * @param audit gets every change
   * @param tls encrypts connections of clients that ask for it, as those on other machines have to
   * @throws {ZenithError} as {@link ServerTls}
   */
  static withTokens(verifier: Verifier, audit?: AuditSink, tls?: TlsFiles): Guard {
    return new Guard(verifier, audit, tls === undefined ? undefined : new ServerTls(tls));
  }

  /** A guard that lets everybody do everything. @param audit as in {@link withTokens} */
  static open(audit?: AuditSink): Guard {
    return new Guard(undefined, audit);
  }

  /**
   * Who the holder of a token is.
   *
   * @param token undefined when there is none
   * @throws {ZenithError} `forbidden`, saying what is wrong with it
   */
  async identify(token: string | undefined): Promise<Principal> {
    if (this.#verifier === undefined) return ANYBODY;
    if (token === undefined) {
      throw new ZenithError("forbidden", "there is no token", { hint: '"zenith token create" makes tokens' });
    }
    const principal = await this.#verifier.verify(token);
    if (principal.cnf === undefined) return principal;
    throw new ZenithError("forbidden", `token ${principal.jti} needs the certificate that it was made for`, {
      hint: "over HTTP no certificate is asked for: use a token without one",
    });
  }

  /** Who the session's client has proved to be. */
  principal(session: Client): Principal {
    return session.identity as Principal;
  }

  /**
   * @param named what the command names; null when that is not known yet
   * @throws {ZenithError} `forbidden` when the session's client may not do this
   */
  check(session: Client, what: string, access: Access | ReplicationAccess, named: Named | null): void {
    const problem = this.#problem(this.principal(session), what, access, named);
    if (problem !== undefined) {
      throw new ZenithError("forbidden", problem, { hint: '"zenith token create" makes tokens' });
    }
  }

  /**
   * Like {@link check}, where it can be found out whether all that the command names is masked.
   *
   * @param isMasked asked only for clients who may see nothing else, and may name it
   */
  async checkAll(
    session: Client,
    what: string,
    access: Access | ReplicationAccess,
    named: Named | null,
    isMasked: () => Promise<boolean>,
  ): Promise<void> {
    const asMasked = this.principal(session).masked === true && named !== null;
    this.check(session, what, access, asMasked ? { ...named, isMasked: true } : named);
    if (asMasked && !await isMasked()) this.check(session, what, access, named);
  }

  /**
   * Runs an operation that changes something, and notes in the audit log who did it and how it
   * ended.
   *
   * @param work checks the client too: a change that was refused is noted as well
   */
  async audited<T>(
    session: Client,
    operation: Operation,
    args: ArgValues<Args>,
    work: () => Promise<T>,
  ): Promise<T> {
    const { tenant, timelines = [] } = namedBy(operation, args);
    const change = {
      command: operation.name,
      tenant: tenant ?? null,
      timelines,
      args: plainArgs(operation, args),
    };
    return await this.auditedChange(session, change, work);
  }

  /** Like {@link audited}, for a change that is no command of a server. */
  async auditedChange<T>(
    session: Client,
    change: Pick<AuditEntry, "command" | "tenant" | "timelines" | "args">,
    work: () => Promise<T>,
  ): Promise<T> {
    const { jti, sub, scope } = this.principal(session);
    const note = (outcome: "done" | "refused" | "failed", error: string | null) =>
      this.#audit?.write({
        token: jti,
        for: sub,
        scope,
        client: session.remoteAddress,
        ...change,
        outcome,
        error,
      });
    try {
      const result = await work();
      note("done", null);
      return result;
    } catch (error) {
      const isRefused = error instanceof ZenithError && error.kind === "forbidden";
      note(isRefused ? "refused" : "failed", errorMessage(error));
      throw error;
    }
  }

  /** Whether {@link check} would pass. */
  allows(session: Client, access: Access | ReplicationAccess, named: Named): boolean {
    return this.#problem(this.principal(session), "", access, named) === undefined;
  }

  #problem(
    principal: Principal,
    what: string,
    access: Access | ReplicationAccess,
    named: Named | null,
  ): string | undefined {
    const invalid = this.#verifier?.problem(principal);
    if (invalid !== undefined) return invalid;
    const { scope, jti, tenant, timeline, addresses = [], safekeepers = [] } = principal;
    const token = `token ${jti}, of scope ${scope},`;
    if (!MAY[access].has(scope)) return `${token} is not for ${what}`;
    if (scope === "admin") return undefined;
    // Whoever can't tell what is masked lets nobody in who may see just that.
    if (principal.masked === true && named?.isMasked !== true && access !== "find") {
      return `${token} is for masked branches alone`;
    }
    if (named === null) return undefined;
    const foreign = named.addresses?.find((address) => !isAmong(address, [...addresses, ...safekeepers])) ??
      named.safekeepers?.find((address) => !safekeepers.includes(formatHostPort(address)));
    if (foreign !== undefined) return `${token} may not name the address ${formatHostPort(foreign)}`;
    if (OF_ALL_TENANTS.has(scope)) return undefined;
    if (named.tenant !== tenant) return `${token} is for tenant ${tenant}, not ${named.tenant ?? "for all"}`;
    if (access === "find") return undefined;
    const timelines = named.timelines ?? [];
    if (timeline === undefined || timelines.length > 0 && timelines.every((id) => id === timeline)) {
      return undefined;
    }
    return `${token} is for timeline ${timeline} alone`;
  }

  /**
   * Ends the sessions of tokens that are no longer valid, from now on.
   *
   * @returns stops doing so
   */
  watch(server: PgServer): () => void {
    const verifier = this.#verifier;
    if (verifier === undefined) return () => {};
    const timer = setInterval(async () => {
      await verifier.refresh();
      server.endSessions((session) => {
        if (session.identity === undefined) return undefined;
        const problem = verifier.problem(this.principal(session));
        return problem === undefined
          ? undefined
          : new PgError(SQLSTATE_INVALID_PASSWORD, `terminating connection: ${problem}`, {
            severity: "FATAL",
          });
      });
    }, LOOK_MS);
    timer.unref();
    return () => clearInterval(timer);
  }
}

/** @param list `host:port` or networks such as `10.0.0.0/24` */
function isAmong(address: HostPort, list: readonly string[]): boolean {
  return list.some((entry) => {
    const network = parseNetwork(entry);
    return network === undefined ? entry === formatHostPort(address) : network(address.host);
  });
}

/** Returns a test for an address; undefined when `text` is no network. */
function parseNetwork(text: string): ((host: string) => boolean) | undefined {
  const match = /^([0-9a-fA-F.:]+)\/(\d{1,3})$/.exec(text);
  if (match === null || isIP(match[1]) === 0) return undefined;
  const family = (host: string) => isIPv6(host) ? "ipv6" : "ipv4";
  const list = new BlockList();
  list.addSubnet(match[1], Number(match[2]), family(match[1]));
  return (host) => isIP(host) !== 0 && list.check(host, family(host));
}

/** @throws {ZenithError} `invalid_argument` unless a token may contain the address */
export function checkTokenAddress(text: string): void {
  try {
    if (parseNetwork(text) !== undefined || /^[^\s/]+:\d{1,5}$/.test(text)) return;
  } catch {
    // The length of its prefix is wrong.
  }
  throw new ZenithError("invalid_argument", `"${text}" is no address: expected host:port or 10.0.0.0/24`);
}
