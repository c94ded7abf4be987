/**
 * The ids by which the outside knows branches and their computes. A branch keeps them when it is
 * renamed or restored, here or by the command line: {@link Directory.sync} finds it again by its
 * name, else by its timeline.
 */
import { type BranchName, parseBranchName, parseTenantId, type TenantId } from "../../common/id.ts";
import type { Row, State } from "./state.ts";
import { makeWords } from "./names.ts";

/** A branch, as the outside knows it. */
export interface KnownBranch {
  readonly tenant: TenantId;
  readonly name: BranchName;
  readonly timeline: string;
  /** `br-…`. */
  readonly id: string;
  /** `ep-…`: the id of its compute, and the first label of that one's host name. */
  readonly endpoint: string;
  /** RFC 3339: when it was first seen. */
  readonly createdAt: string;
  /** How long its compute may be idle; null for the default. 0 means for ever. */
  readonly suspendAfterMs: number | null;
  /** Whether a client of Neon's has a compute on it. Who connects wakes one anyway. */
  readonly hasEndpoint: boolean;
  readonly lastResetAt: string | null;
}

/** As much of a branch as the directory needs. */
export interface ListedBranch {
  readonly name: string;
  readonly timeline_id: string;
}

export class Directory {
  readonly #state: State;

  constructor(state: State) {
    this.#state = state;
  }

  byEndpoint(endpoint: string): KnownBranch | undefined {
    return known(this.#state.row("SELECT * FROM branch WHERE endpoint = ?", endpoint));
  }

  byId(id: string): KnownBranch | undefined {
    return known(this.#state.row("SELECT * FROM branch WHERE id = ?", id));
  }

  byName(tenant: TenantId, name: string): KnownBranch | undefined {
    return known(this.#state.row("SELECT * FROM branch WHERE tenant = ? AND name = ?", tenant, name));
  }

  /**
   * Brings the ids of a tenant's branches in line with the branches that there are.
   *
   * @returns each branch with its ids, in the order of `branches`
   */
  sync(tenant: TenantId, branches: readonly ListedBranch[]): KnownBranch[] {
    const names = new Set(branches.map(({ name }) => name));
    return this.#state.atOnce(() => {
      const byName = this.#byNames(tenant);
      const renamed = [...byName.values()].filter(({ name }) => !names.has(name));
      for (const { name, timeline_id } of branches) {
        const row = byName.get(name);
        if (row !== undefined) {
          if (row.timeline !== timeline_id) this.#setTimeline(row.id, timeline_id);
          continue;
        }
        const before = renamed.find(({ timeline }) => timeline === timeline_id);
        if (before === undefined) this.#insert(tenant, name, timeline_id);
        else {
          renamed.splice(renamed.indexOf(before), 1);
          this.#state.run("UPDATE branch SET name = ? WHERE id = ?", name, before.id);
        }
      }
      for (const { id } of renamed) this.#state.run("DELETE FROM branch WHERE id = ?", id);
      const now = this.#byNames(tenant);
      return branches.map(({ name }) => now.get(name)!);
    });
  }

  /** Adds or updates one branch that was just made, restored or looked up. */
  note(tenant: TenantId, { name, timeline_id }: ListedBranch): KnownBranch {
    const before = this.byName(tenant, name);
    // Each look at a branch comes here. What is written, the disk has to confirm.
    if (before?.timeline === timeline_id) return before;
    if (before === undefined) this.#insert(tenant, name, timeline_id);
    else this.#setTimeline(before.id, timeline_id);
    return this.byName(tenant, name)!;
  }

  rename(tenant: TenantId, from: BranchName, to: BranchName): void {
    this.#state.run("UPDATE branch SET name = ? WHERE tenant = ? AND name = ?", to, tenant, from);
  }

  forget(tenant: TenantId, name: string): void {
    this.#state.run("DELETE FROM branch WHERE tenant = ? AND name = ?", tenant, name);
  }

  forgetTenant(tenant: TenantId): void {
    for (const table of ["branch", "tenant", "awake", "role_password", "operation"]) {
      this.#state.run(`DELETE FROM ${table} WHERE tenant = ?`, tenant);
    }
  }

  setSuspendAfter(id: string, ms: number | null): void {
    this.#state.run("UPDATE branch SET suspend_after_ms = ? WHERE id = ?", ms, id);
  }

  setHasEndpoint(id: string, has: boolean): void {
    this.#state.run("UPDATE branch SET has_endpoint = ? WHERE id = ?", has ? 1 : 0, id);
  }

  noteReset(id: string): void {
    this.#state.run("UPDATE branch SET last_reset_at = ? WHERE id = ?", new Date().toISOString(), id);
  }

  #byNames(tenant: TenantId): Map<string, KnownBranch> {
    const rows = this.#state.rows("SELECT * FROM branch WHERE tenant = ?", tenant);
    return new Map(rows.map((row) => [String(row["name"]), known(row)!]));
  }

  #setTimeline(id: string, timeline: string): void {
    this.#state.run("UPDATE branch SET timeline = ? WHERE id = ?", timeline, id);
  }

  #insert(tenant: TenantId, name: string, timeline: string): void {
    const words = makeWords();
    this.#state.run(
      "INSERT INTO branch (tenant, name, timeline, id, endpoint, created_at) VALUES (?, ?, ?, ?, ?, ?)",
      tenant,
      name,
      timeline,
      `br-${words}`,
      `ep-${words}`,
      new Date().toISOString(),
    );
  }
}

function known(row: Row | undefined): KnownBranch | undefined {
  if (row === undefined) return undefined;
  return {
    tenant: parseTenantId(String(row["tenant"])),
    name: parseBranchName(String(row["name"])),
    timeline: String(row["timeline"]),
    id: String(row["id"]),
    endpoint: String(row["endpoint"]),
    createdAt: String(row["created_at"]),
    suspendAfterMs: row["suspend_after_ms"] === null ? null : Number(row["suspend_after_ms"]),
    hasEndpoint: row["has_endpoint"] === 1,
    lastResetAt: row["last_reset_at"] === null ? null : String(row["last_reset_at"]),
  };
}
