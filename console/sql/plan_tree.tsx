/** A plan as a tree: what takes long is wide, and what was misjudged is said. */
import { formatCount } from "../format.ts";
import type { Plan, PlanNode } from "./plan.ts";

export function PlanTree({ plan }: { readonly plan: Plan }) {
  const { root, planningMs, executionMs } = plan;
  return (
    <section class="card" aria-label="Plan">
      <header>
        <p class="hint">
          {executionMs === undefined
            ? "As it was planned; it was not run. The bars are shares of the cost."
            : `Ran for ${formatMs(executionMs)}, planned in ${
              formatMs(planningMs ?? 0)
            }. The bars are shares of the time.`}
        </p>
      </header>
      <div class="plan" tabIndex={0} role="region" aria-label="Plan as a tree">
        <ul>
          <Node node={root} />
        </ul>
      </div>
    </section>
  );
}

function Node({ node }: { readonly node: PlanNode }) {
  const { title, details, plannedRows, actualRows, loops, ownMs, cost, share, misjudged, children } = node;
  return (
    <li>
      <div class={`plan-node ${share >= 0.5 ? "is-hot" : share >= 0.2 ? "is-warm" : ""}`}>
        <div class="plan-head">
          <strong>{title}</strong>
          <meter min={0} max={1} value={share} aria-label={`${Math.round(share * 100)} % of the whole`} />
        </div>
        <p class="hint">
          {actualRows === undefined
            ? `${formatCount(plannedRows)} rows planned, cost ${formatCount(cost)}`
            : loops === 0
            ? "never executed"
            : `${formatCount(actualRows)} rows${loops === 1 ? "" : ` in ${formatCount(loops ?? 1)} loops`}, ${
              formatMs(ownMs ?? 0)
            } of its own`}
          {misjudged !== undefined && (
            <span class="misjudged">
              {` ${formatCount(Math.round(misjudged))} times ${
                (actualRows ?? 0) / Math.max(loops ?? 1, 1) > plannedRows ? "more" : "fewer"
              } rows than planned`}
            </span>
          )}
        </p>
        {details.length > 0 && (
          <dl>
            {details.map(([name, value]) => (
              <div key={name}>
                <dt>{name}</dt>
                <dd class="mono">{value}</dd>
              </div>
            ))}
          </dl>
        )}
      </div>
      {children.length > 0 && (
        <ul>
          {children.map((child, i) => <Node key={i} node={child} />)}
        </ul>
      )}
    </li>
  );
}

function formatMs(ms: number): string {
  return ms < 1 ? `${ms.toFixed(3)} ms` : ms < 100 ? `${ms.toFixed(1)} ms` : `${formatCount(ms)} ms`;
}
