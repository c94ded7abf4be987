/** What comes from primaries and archives, and what goes to the object store, with how fast it goes. */
import { useRef } from "preact/hooks";
import { call } from "../api.ts";
import type { ResultOf } from "../contract.ts";
import { formatAgo, formatBytes, formatCount, lsnToNumber } from "../format.ts";
import { usePoll } from "../poll.ts";
import { type Look, rateOf } from "../rates.ts";
import { to } from "../router.ts";
import { Card, Fact, Facts, Header, Loaded, Table } from "../ui/parts.tsx";

const POLL_MS = 3_000;

type Follow = ResultOf<"followList">["items"][number];
type Store = NonNullable<ResultOf<"uploadStatus">["store"]>;

export function TransfersPage() {
  const before = useRef<Look | undefined>(undefined);
  const polled = usePoll(
    async () => {
      const [{ items }, { store }] = await Promise.all([call("followList"), call("uploadStatus")]);
      const bytes = new Map<string, number>();
      for (const { timeline_id, last_lsn } of items) {
        if (last_lsn !== null) bytes.set(timeline_id, lsnToNumber(last_lsn));
      }
      if (store !== null) {
        bytes.set("sent", store.sent_bytes_total).set("received", store.received_bytes_total);
      }
      const now: Look = { atMs: performance.now(), values: bytes };
      const last = before.current;
      before.current = now;
      const rate: Rate = (name) => {
        const found = rateOf(last, now, name);
        return found === undefined ? "…" : `${formatBytes(found)}/s`;
      };
      return { items, store, rate };
    },
    POLL_MS,
    "",
  );
  return (
    <>
      <Header
        title="Transfers"
        about="What comes from primaries and archives, and what goes to the object store."
      />
      <Loaded polled={polled} what="transfers">
        {({ items, store, rate }) => (
          <div class="stack-wide">
            <Card title="Follows">
              {items.length === 0
                ? (
                  <p class="empty is-small">
                    No branch follows a primary. <code>zenith follow prod --from postgres://…</code>{" "}
                    begins with a copy of one, and goes on with its changes.
                  </p>
                )
                : <Follows items={items} rate={rate} />}
            </Card>
            <Card title="Object store">
              {store === null
                ? (
                  <p class="empty is-small">
                    There is none: the data are on this machine alone. <code>zenith object-store set</code>
                    {" "}
                    names one.
                  </p>
                )
                : <Uploads store={store} rate={rate} />}
            </Card>
            <p class="hint">
              Imports, exports and backups run in the terminal in which they were begun, and show there how
              they go.
            </p>
          </div>
        )}
      </Loaded>
    </>
  );
}

type Rate = (name: string) => string;

function Follows({ items, rate }: { readonly items: readonly Follow[]; readonly rate: Rate }) {
  return (
    <Table
      label="Follows"
      isInCard
      head={
        <>
          <th scope="col">Branch</th>
          <th scope="col">From</th>
          <th scope="col">State</th>
          <th scope="col" class="is-number">Behind</th>
          <th scope="col" class="is-number">Rate</th>
        </>
      }
    >
      {items.map((item) => (
        <tr key={item.timeline_id}>
          <td>
            <a href={to.timeLine(item.tenant_id)}>{item.branch ?? item.timeline_id.slice(0, 8)}</a>
          </td>
          <td class="mono break">{item.source}</td>
          <td>
            <span class={`badge is-${BADGES[item.state] ?? "running"}`}>{item.state}</span>
            {item.problem !== null && <p class="hint is-problem">{item.problem}</p>}
          </td>
          <td class="is-number">
            {item.lag_bytes === null ? "not known" : formatBytes(item.lag_bytes)}
            {item.lag_s !== null && <p class="hint">{formatCount(item.lag_s)} s</p>}
          </td>
          <td class="is-number">{rate(item.timeline_id)}</td>
        </tr>
      ))}
    </Table>
  );
}

const BADGES: Readonly<Record<string, string>> = {
  streaming: "finished",
  reading: "finished",
  waiting: "finished",
  failed: "failed",
  stopped: "expired",
};

function Uploads({ store, rate }: { readonly store: Store; readonly rate: Rate }) {
  const pending = store.tenants.filter(({ pending_bytes, error }) => pending_bytes > 0 || error !== null);
  return (
    <>
      <Facts>
        <Fact name="Store">
          <span class="mono break">{store.url}</span>
        </Fact>
        <Fact name="Sent">{formatBytes(store.sent_bytes_total)}, {rate("sent")}</Fact>
        <Fact name="Received">{formatBytes(store.received_bytes_total)}, {rate("received")}</Fact>
        <Fact name="Requests">
          {formatCount(store.requests_total)}, {formatCount(store.retries_total)} of them again
        </Fact>
        <Fact name="Not there yet">
          {pending.length === 0
            ? "nothing: all is in the store"
            : formatBytes(pending.reduce((sum, { pending_bytes }) => sum + pending_bytes, 0))}
        </Fact>
      </Facts>
      {pending.length > 0 && (
        <Table
          label="Not in the store yet"
          isInCard
          head={
            <>
              <th scope="col">Tenant</th>
              <th scope="col" class="is-number">Not there yet</th>
              <th scope="col">Since</th>
            </>
          }
        >
          {pending.map((tenant) => (
            <tr key={tenant.tenant_id}>
              <td class="mono">{tenant.tenant_id}</td>
              <td class="is-number">{formatBytes(tenant.pending_bytes)}</td>
              <td>
                {tenant.pending_since === null ? "" : formatAgo(tenant.pending_since)}
                {tenant.error !== null && <p class="hint is-problem">{tenant.error}</p>}
              </td>
            </tr>
          ))}
        </Table>
      )}
    </>
  );
}
