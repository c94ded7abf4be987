/** What Prometheus gets from this server, with how fast it goes up. */
import { useRef, useState } from "preact/hooks";
import { metrics } from "../api.ts";
import { formatBytes, formatCount } from "../format.ts";
import { type Metric, readMetrics } from "../metrics_text.ts";
import { usePoll } from "../poll.ts";
import { type Look, rateOf } from "../rates.ts";
import { Copy, Header, Loaded, Search, Table } from "../ui/parts.tsx";

const POLL_MS = 5_000;

export function MetricsPage() {
  const before = useRef<Look | undefined>(undefined);
  const polled = usePoll(
    async () => {
      const found = readMetrics(await metrics());
      const now: Look = {
        atMs: performance.now(),
        values: new Map(
          found.flatMap(({ name, samples }) =>
            samples.map(({ labels, value }) => [`${name}${labels}`, value])
          ),
        ),
      };
      const last = before.current;
      before.current = now;
      return { found, now, last };
    },
    POLL_MS,
    "",
  );
  const [filter, setFilter] = useState("");
  const url = `${location.origin}/metrics`;
  return (
    <>
      <Header title="Metrics" about="What this server tells Prometheus. A token of scope admin reads it.">
        <Search label="Find a metric" value={filter} onInput={setFilter} />
      </Header>
      <div class="copyable">
        <code>curl -H "Authorization: Bearer $ZENITH_TOKEN" {url}</code>
        <Copy text={`curl -H "Authorization: Bearer $ZENITH_TOKEN" ${url}`} />
      </div>
      <Loaded polled={polled} what="metrics">
        {({ found, now, last }) => (
          <Table
            label="Metrics"
            head={
              <>
                <th scope="col">Metric</th>
                <th scope="col" class="is-number">Value</th>
                <th scope="col" class="is-number">Per second</th>
              </>
            }
          >
            {found.filter(({ name, help }) =>
              `${name} ${help}`.toLowerCase().includes(filter.trim().toLowerCase())
            ).map(
              (metric) => <Rows key={metric.name} metric={metric} now={now} last={last} />,
            )}
          </Table>
        )}
      </Loaded>
    </>
  );
}

function Rows({ metric: { name, type, help, samples }, now, last }: {
  readonly metric: Metric;
  readonly now: Look;
  readonly last: Look | undefined;
}) {
  const format = (value: number) => /_bytes(_total)?$/.test(name) ? formatBytes(value) : formatCount(value);
  const rate = (labels: string) => {
    const found = type === "counter" ? rateOf(last, now, `${name}${labels}`) : undefined;
    return found === undefined ? "" : format(found);
  };
  return (
    <>
      {samples.map(({ labels, value }, i) => (
        <tr key={labels} class={i === 0 ? "" : "is-more"}>
          <td class="is-name">
            {i === 0 && <span class="mono break">{name}</span>}
            {labels !== "" && <span class="mono hint break">{` {${labels}}`}</span>}
            {i === 0 && <p class="hint">{help}</p>}
          </td>
          <td class="is-number">{format(value)}</td>
          <td class="is-number">{rate(labels)}</td>
        </tr>
      ))}
    </>
  );
}
