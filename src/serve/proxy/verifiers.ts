/**
 * The verifiers of roles' passwords. A Postgres that runs is asked each time, and once more right
 * before it is put to sleep. One that sleeps can't change them: what it has said holds as long as
 * its data directory is the one that it left. So a wrong password wakes nobody.
 */
import { statSync } from "node:fs";
import type { ComputeInfo } from "../../control/computes.ts";
import type { ComputePaths } from "../../common/paths.ts";
import { rolePasswords } from "../../compute/postgres/role_passwords.ts";
import { connectAsOperator } from "../fleet/activity.ts";
import { parseVerifier, type Verifier } from "./scram_server.ts";

/** How many computes are remembered, and how many roles of each. A role takes some 200 bytes. */
const COMPUTES_MAX = 1_000;
const ROLES_MAX = 100;

/** What a Postgres has said. */
interface Remembered {
  /** The data directory that it left when it was put to sleep. Null as long as it has not been. */
  left: string | null;
  /** By timeline, since a restored branch has other roles, and role. */
  readonly verifiers: Map<string, Verifier | null>;
}

/**
 * Questions to one Postgres, one at a time: a crowd that connects must not take all of its sessions
 * for this.
 */
interface Line {
  last: Promise<unknown>;
  /** The question that has not been sent: who comes now is in it, so the answer is of now. */
  next:
    | { readonly roles: Set<string>; readonly passwords: Promise<ReadonlyMap<string, string | null>> }
    | undefined;
}

export interface Whose {
  readonly timeline: string;
  readonly role: string;
}

export class Verifiers {
  /** By the compute's directory. */
  readonly #remembered = new Map<string, Remembered>();
  /** By the compute's directory. */
  readonly #lines = new Map<string, Line>();

  /** What Zenith itself keeps of a role; each start sets it. Undefined for all but a few. */
  ofKept(role: string, pgpass: string): Verifier | null | undefined {
    const kept = rolePasswords(pgpass).get(role);
    return kept === undefined ? undefined : parseVerifier(kept.verifier) ?? null;
  }

  /** What a role of a Postgres that sleeps has; undefined when only the Postgres knows. */
  ofSleeping(whose: Whose, paths: ComputePaths): Verifier | null | undefined {
    const remembered = this.#remembered.get(paths.dir);
    if (remembered === undefined || remembered.left === null) return undefined;
    return remembered.left === stateOf(paths) ? remembered.verifiers.get(keyOf(whose)) : undefined;
  }

  /**
   * What a role of a Postgres that runs has; null when there is no such role, or no SCRAM for it.
   */
  async ofRunning(role: string, compute: ComputeInfo): Promise<Verifier | null> {
    const verifier = parseVerifier(await this.#ask(compute, role) ?? "") ?? null;
    // Names are of the client's choice: those that exist push out those that don't.
    if (verifier !== null) this.#remember(compute, role, verifier);
    return verifier;
  }

  /** Asks a Postgres that is about to be put to sleep for all roles that have logged in. */
  async beforeSleep(compute: ComputeInfo): Promise<void> {
    const remembered = this.#remembered.get(compute.paths.dir);
    if (remembered === undefined) return;
    const roles = new Set([...remembered.verifiers.keys()].map(roleOf));
    this.#remembered.delete(compute.paths.dir);
    const found = await passwordsOf(compute, roles);
    for (const role of roles) {
      const verifier = parseVerifier(found.get(role) ?? "");
      if (verifier !== undefined) this.#remember(compute, role, verifier);
    }
  }

  /** Notes that it sleeps now. */
  afterSleep({ paths }: ComputeInfo): void {
    const remembered = this.#remembered.get(paths.dir);
    if (remembered !== undefined) remembered.left = stateOf(paths);
  }

  #remember({ paths, identity }: ComputeInfo, role: string, verifier: Verifier): void {
    let remembered = this.#remembered.get(paths.dir);
    if (remembered === undefined) {
      if (this.#remembered.size >= COMPUTES_MAX) this.#remembered.clear();
      remembered = { left: null, verifiers: new Map() };
      this.#remembered.set(paths.dir, remembered);
    }
    remembered.left = null;
    if (remembered.verifiers.size >= ROLES_MAX) remembered.verifiers.clear();
    remembered.verifiers.set(keyOf({ timeline: identity.timeline, role }), verifier);
  }

  /** Asks once for all who come while the question before is not answered. */
  #ask(compute: ComputeInfo, role: string): Promise<string | null | undefined> {
    const key = compute.paths.dir;
    const line = this.#lines.get(key) ?? { last: Promise.resolve(), next: undefined };
    this.#lines.set(key, line);
    if (line.next === undefined) {
      const roles = new Set<string>();
      const passwords = line.last.then(() => {
        line.next = undefined;
        return passwordsOf(compute, roles);
      });
      line.next = { roles, passwords };
      line.last = passwords.catch(() => undefined).then(() => {
        if (line.next === undefined) this.#lines.delete(key);
      });
    }
    const { roles, passwords } = line.next;
    roles.add(role);
    return passwords.then((found) => found.get(role));
  }
}

/** What `pg_authid` has for roles: those that it doesn't have are not in the result. */
async function passwordsOf(
  compute: ComputeInfo,
  roles: ReadonlySet<string>,
): Promise<Map<string, string | null>> {
  const client = await connectAsOperator(compute);
  try {
    const names = [...roles].map(literal).join(", ");
    const { rows } = await client.query(
      `SELECT rolname, rolpassword FROM pg_catalog.pg_authid WHERE rolname IN (${names})`,
    );
    return new Map(rows.map(([name, password]) => [String(name), password ?? null]));
  } finally {
    client.destroy();
  }
}

function keyOf({ timeline, role }: Whose): string {
  return `${timeline} ${role}`;
}

function roleOf(key: string): string {
  return key.slice(key.indexOf(" ") + 1);
}

/** Changes with each start, which makes a new data directory. */
function stateOf({ pgdata }: ComputePaths): string | null {
  const found = statSync(pgdata, { throwIfNoEntry: false });
  return found === undefined ? null : `${found.ino} ${found.mtimeMs}`;
}

/** A literal of standard_conforming_strings, which the E form does not depend on. */
function literal(text: string): string {
  return `E'${text.replaceAll("\\", "\\\\").replaceAll("'", "''")}'`;
}
