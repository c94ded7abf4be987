/** What is known of a tenant beside its data: its name, its default branch, who may connect. */
import type { TenantId } from "../../common/id.ts";
import type { Row, State } from "./state.ts";

export interface KnownTenant {
  readonly tenant: TenantId;
  readonly name: string;
  /** RFC 3339: when it was first seen. */
  readonly createdAt: string;
  /** Null for `main`. */
  readonly defaultBranch: string | null;
  /** The addresses and networks from which clients are let in; empty for all. */
  readonly allowedIps: readonly string[];
}

export class Tenants {
  readonly #state: State;

  constructor(state: State) {
    this.#state = state;
  }

  /** Finds what is known; makes it for a tenant that is seen for the first time. */
  get(tenant: TenantId, name: string = tenant): KnownTenant {
    const find = (): Row | undefined => this.#state.row("SELECT * FROM tenant WHERE tenant = ?", tenant);
    const row = find();
    if (row !== undefined) return known(tenant, row);
    this.#state.run(
      "INSERT OR IGNORE INTO tenant (tenant, name, created_at) VALUES (?, ?, ?)",
      tenant,
      name,
      new Date().toISOString(),
    );
    return known(tenant, find()!);
  }

  rename(tenant: TenantId, name: string): void {
    this.get(tenant);
    this.#state.run("UPDATE tenant SET name = ? WHERE tenant = ?", name, tenant);
  }

  setDefaultBranch(tenant: TenantId, branch: string): void {
    this.get(tenant);
    this.#state.run("UPDATE tenant SET default_branch = ? WHERE tenant = ?", branch, tenant);
  }

  allowedIps(tenant: TenantId): readonly string[] {
    const row = this.#state.row("SELECT allowed_ips FROM tenant WHERE tenant = ?", tenant);
    return row === undefined ? [] : JSON.parse(String(row["allowed_ips"])) as string[];
  }

  setAllowedIps(tenant: TenantId, allowed: readonly string[]): void {
    this.get(tenant);
    this.#state.run("UPDATE tenant SET allowed_ips = ? WHERE tenant = ?", JSON.stringify(allowed), tenant);
  }
}

function known(tenant: TenantId, row: Row): KnownTenant {
  return {
    tenant,
    name: String(row["name"]),
    createdAt: String(row["created_at"]),
    defaultBranch: row["default_branch"] === null ? null : String(row["default_branch"]),
    allowedIps: JSON.parse(String(row["allowed_ips"])) as string[],
  };
}
