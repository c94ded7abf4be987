/** The computes that `serve` has woken, and will put to sleep. It survives this process. */
import { type ComputeName, formatComputeName, parseReplica } from "../../common/compute_name.ts";
import { parseBranchName, parseTenantId, type TenantId } from "../../common/id.ts";
import { parseLsn } from "../../common/lsn.ts";
import type { State } from "../state/state.ts";

export class AwakeList {
  readonly #state: State;

  constructor(state: State) {
    this.#state = state;
  }

  list(): { readonly tenant: TenantId; readonly name: ComputeName }[] {
    return this.#state.rows("SELECT tenant, compute FROM awake ORDER BY tenant, compute").map((row) => ({
      tenant: parseTenantId(String(row["tenant"])),
      name: parseName(String(row["compute"])),
    }));
  }

  has(tenant: TenantId, name: ComputeName): boolean {
    const found = this.#state.row(
      "SELECT 1 FROM awake WHERE tenant = ? AND compute = ?",
      tenant,
      formatComputeName(name),
    );
    return found !== undefined;
  }

  add(tenant: TenantId, name: ComputeName): void {
    this.#state.run("INSERT OR IGNORE INTO awake VALUES (?, ?)", tenant, formatComputeName(name));
  }

  remove(tenant: TenantId, name: ComputeName): void {
    this.#state.run("DELETE FROM awake WHERE tenant = ? AND compute = ?", tenant, formatComputeName(name));
  }
}

/** Reads what `formatComputeName` has written. */
function parseName(text: string): ComputeName {
  const [branch = "", beside] = text.split("@", 2);
  const replica = beside === undefined ? null : parseReplica(beside);
  const moment = beside === undefined || replica !== null ? null : parseLsn(beside);
  return { branch: parseBranchName(branch), moment, replica };
}
