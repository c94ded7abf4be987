/**
 * The verifiers of roles' passwords. A Postgres that runs is asked each time. One that sleeps can't
 * have changed them: what it said last holds until it wakes, so a wrong password wakes nobody.
 */
import type { ComputeInfo } from "../../control/computes.ts";
import type { BranchName, TenantId } from "../../common/id.ts";
import { rolePasswords } from "../../compute/postgres/role_passwords.ts";
import { connectAsOperator } from "../fleet/activity.ts";
import { parseVerifier, type Verifier } from "./scram_server.ts";

/** How many are remembered. Each takes some 200 bytes. */
const REMEMBERED_MAX = 10_000;

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
  readonly tenant: TenantId;
  readonly branch: BranchName;
  /** The timeline, as far as it is known: a restored branch has other roles. */
  readonly timeline: string | undefined;
  readonly role: string;
}

export class Verifiers {
  readonly #remembered = new Map<string, Verifier | null>();
  /** By the compute's directory. */
  readonly #lines = new Map<string, Line>();

  /**
   * What a role of a Postgres that sleeps has for its password; null when there is none, undefined
   * when only the Postgres knows.
   *
   * @param pgpass the passwords that Zenith keeps, which each start sets
   */
  ofSleeping(whose: Whose, pgpass: string): Verifier | null | undefined {
    const kept = rolePasswords(pgpass).get(whose.role);
    if (kept !== undefined) return parseVerifier(kept.verifier) ?? null;
    return this.#remembered.get(keyOf(whose));
  }

  /**
   * What a role of a Postgres that runs has; null when there is no such role, or no SCRAM for it.
   */
  async ofRunning(whose: Whose, compute: ComputeInfo): Promise<Verifier | null> {
    const verifier = parseVerifier(await this.#ask(compute, whose.role) ?? "") ?? null;
    // Names are of the client's choice: those that exist push out those that don't.
    if (verifier !== null) {
      if (this.#remembered.size >= REMEMBERED_MAX) this.#remembered.clear();
      this.#remembered.set(keyOf({ ...whose, timeline: compute.identity.timeline }), verifier);
    }
    return verifier;
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

function keyOf({ tenant, branch, timeline, role }: Whose): string {
  return JSON.stringify([tenant, branch, timeline, role]);
}

/** A literal of standard_conforming_strings, which the E form does not depend on. */
function literal(text: string): string {
  return `E'${text.replaceAll("\\", "\\\\").replaceAll("'", "''")}'`;
}
