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

export interface Whose {
  readonly tenant: TenantId;
  readonly branch: BranchName;
  /** The timeline, as far as it is known: a restored branch has other roles. */
  readonly timeline: string | undefined;
  readonly role: string;
}

export class Verifiers {
  readonly #remembered = new Map<string, Verifier | null>();

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
    const client = await connectAsOperator(compute);
    let text: string | null | undefined;
    try {
      const { rows } = await client.query(
        `SELECT rolpassword FROM pg_catalog.pg_authid WHERE rolname = ${literal(whose.role)}`,
      );
      text = rows[0]?.[0];
    } finally {
      client.destroy();
    }
    const verifier = parseVerifier(text ?? "") ?? null;
    // Names are of the client's choice: those that exist push out those that don't.
    if (verifier !== null) {
      if (this.#remembered.size >= REMEMBERED_MAX) this.#remembered.clear();
      this.#remembered.set(keyOf({ ...whose, timeline: compute.identity.timeline }), verifier);
    }
    return verifier;
  }
}

function keyOf({ tenant, branch, timeline, role }: Whose): string {
  return JSON.stringify([tenant, branch, timeline, role]);
}

/** A literal of standard_conforming_strings, which the E form does not depend on. */
function literal(text: string): string {
  return `E'${text.replaceAll("\\", "\\\\").replaceAll("'", "''")}'`;
}
