/** What the Postgres of a branch does right now, for whoever watches. It is not woken for that. */
import { ownName } from "../../common/compute_name.ts";
import type { TenantId } from "../../common/id.ts";
import { findCompute } from "../../control/computes.ts";
import { type PostgresFigures, readFigures } from "../fleet/activity.ts";
import { type Branch, findBranch } from "./branches.ts";
import { branchNameOf } from "./computes.ts";
import type { WorkContext } from "./context.ts";

export interface ComputeFigures extends PostgresFigures {
  /** How much of its WAL the page server does not have yet. */
  readonly lagBytes: number;
}

/** Any number of pages that watch a branch ask its Postgres once in this time. */
const SHARE_MS = 900;

interface Shared {
  /** By performance.now(). */
  readonly askedMs: number;
  readonly found: Promise<ComputeFigures | null>;
}

export class Figures {
  readonly #shared = new Map<string, Shared>();

  /** @returns null when its Postgres sleeps */
  async of(context: WorkContext, tenant: TenantId, branch: Branch): Promise<ComputeFigures | null> {
    const now = performance.now();
    for (const [key, { askedMs }] of this.#shared) if (now - askedMs > SHARE_MS) this.#shared.delete(key);
    const before = this.#shared.get(branch.known.id);
    if (before !== undefined) return await before.found;
    const found = ask(context, tenant, branch);
    this.#shared.set(branch.known.id, { askedMs: now, found });
    return await found;
  }
}

async function ask(context: WorkContext, tenant: TenantId, branch: Branch): Promise<ComputeFigures | null> {
  const name = ownName(branchNameOf(branch));
  if (!context.fleet.isAwake(tenant, name)) return null;
  const figures = await readFigures(findCompute(context.environment(), tenant, name));
  // Asked for afterwards: what is on its way counts for less.
  const { next_lsn } = await findBranch(context, tenant, branch.name);
  return { ...figures, lagBytes: Math.max(0, Number(figures.flushLsn - next_lsn)) };
}
