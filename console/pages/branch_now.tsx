/** What the Postgres of a branch does while one looks: charts that begin when the page is opened. */
import { useMemo, useRef } from "preact/hooks";
import { call } from "../api.ts";
import type { Branch, ResultOf } from "../contract.ts";
import { formatBytes, formatCount, lsnToNumber } from "../format.ts";
import { usePoll } from "../poll.ts";
import { perSecond } from "../rates.ts";
import { Chart } from "../ui/chart.tsx";
import { Card, Problem } from "../ui/parts.tsx";

const POLL_MS = 2_000;
/** Ten minutes. */
const KEPT = 300;

type Sample = ResultOf<"computeFigures">;

export function BranchNow({ tenant, branch }: { readonly tenant: string; readonly branch: Branch }) {
  const kept = useRef<readonly Sample[]>([]);
  const polled = usePoll(
    async () => {
      const sample = await call("computeFigures", { tenant, branch: branch.id });
      // Two tabs share an answer.
      if (kept.current.at(-1)?.at !== sample.at) kept.current = [...kept.current, sample].slice(-KEPT);
      return kept.current;
    },
    POLL_MS,
    `${tenant} ${branch.id}`,
  );
  const samples = polled.data ?? [];
  const shown = useMemo(() => seriesOf(samples), [samples]);
  const last = samples.at(-1)?.figures;
  if (last === null || last === undefined && polled.error === undefined) return null;
  const { times, ...lines } = shown;
  return (
    <Card title="Now">
      <Problem error={polled.error} />
      <div class="charts">
        <Chart
          title="Transactions per second"
          times={times}
          format={formatCount}
          lines={lines.transactions}
        />
        <Chart title="Connections" times={times} format={formatCount} lines={lines.connections} />
        <Chart
          title="Found in shared buffers"
          times={times}
          max={100}
          format={(value) => `${value.toFixed(1)} %`}
          lines={lines.hits}
        />
        <Chart
          title="WAL per second"
          times={times}
          format={(value) => formatBytes(Math.round(value))}
          lines={lines.wal}
        />
        <Chart title="Page server behind by" times={times} format={formatBytes} lines={lines.lag} />
      </div>
      {last?.commit_wait_ms !== null && last?.commit_wait_ms !== undefined && (
        <p class="hint">Commits wait {last.commit_wait_ms.toFixed(1)} ms until they are durable.</p>
      )}
    </Card>
  );
}

/** Rates are of the time between two samples; none where Postgres was started anew meanwhile. */
function seriesOf(samples: readonly Sample[]) {
  const times = samples.map(({ at }) => Date.parse(at));
  type Figures = NonNullable<Sample["figures"]>;
  const rates = (of: (figures: Figures) => number) =>
    samples.map(({ figures }, i) => {
      const before = samples[i - 1]?.figures;
      if (figures === null || before === null || before === undefined) return null;
      return perSecond(of(figures) - of(before), times[i]! - times[i - 1]!) ?? null;
    });
  const levels = (of: (figures: Figures) => number) =>
    samples.map(({ figures }) => figures === null ? null : of(figures));
  const hits = samples.map(({ figures }, i) => {
    const before = samples[i - 1]?.figures;
    if (figures === null || before === null || before === undefined) return null;
    const hit = figures.blocks_hit_total - before.blocks_hit_total;
    const all = hit + figures.blocks_read_total - before.blocks_read_total;
    return hit < 0 || all <= 0 ? null : hit / all * 100;
  });
  return {
    times,
    transactions: [{
      name: "transactions",
      color: "accent",
      values: rates(({ transactions_total }) => transactions_total),
    }],
    connections: [
      { name: "active", color: "awake", values: levels(({ connections }) => connections.active) },
      { name: "idle", color: "line", values: levels(({ connections }) => connections.idle) },
      {
        name: "in txn",
        color: "warning",
        values: levels(({ connections }) => connections.idle_in_transaction),
      },
    ],
    hits: [{ name: "hits", color: "awake", values: hits }],
    wal: [{ name: "WAL", color: "accent", values: rates(({ flush_lsn }) => lsnToNumber(flush_lsn)) }],
    lag: [{ name: "lag", color: "warning", values: levels(({ lag_bytes }) => lag_bytes) }],
  };
}
