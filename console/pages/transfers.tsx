/** Clusters that come and go, followers, and what goes to the object store, with how fast it goes. */
import { useRef } from "preact/hooks";
import { call } from "../api.ts";
import type { ResultOf } from "../contract.ts";
import { formatAgo, formatBytes, formatCount, formatTook, lsnToNumber } from "../format.ts";
import { usePoll } from "../poll.ts";
import { type Look, rateOf } from "../rates.ts";
import { to } from "../router.ts";
import { Card, Fact, Facts, Header, Loaded, Table } from "../ui/parts.tsx";

const POLL_MS = 3_000;

type Transfer = ResultOf<"transferList">["items"][number];
type Follow = ResultOf<"followList">["items"][number];
type Store = NonNullable<ResultOf<"uploadStatus">["store"]>;

export function TransfersPage() {
  const before = useRef<Look | undefined>(undefined);
  const polled = usePoll(
    async () => {
      const [{ items }, { items: transfers }, { store }] = await Promise.all([
        call("followList"),
        call("transferList"),
        call("uploadStatus"),
      ]);
      const bytes = new Map<string, number>(transfers.map(({ id, bytes }) => [nameOf(id), bytes]));
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
      return { items, transfers, store, rate };
    },
    POLL_MS,
    "",
  );
  return (
    <>
      <Header
        title="Transfers"
        about="Clusters that come and go, what follows a primary, and what goes to the object store."
      />
      <Loaded polled={polled} what="transfers">
        {({ items, transfers, store, rate }) => (
          <div class="stack-wide">
            <Card title="Imports, exports and backups">
              {transfers.length === 0
                ? (
                  <p class="empty is-small">
                    None since the page server was started. <code>zenith import /backups/monday</code>{" "}
                    brings a cluster, <code>zenith export main --to /srv/postgres/main</code> takes one out.
                  </p>
                )
                : <Clusters items={transfers} rate={rate} />}
            </Card>
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
          </div>
        )}
      </Loaded>
    </>
  );
}

type Rate = (name: string) => string;

const nameOf = (id: number): string => `transfer ${id}`;

const KINDS: Readonly<Record<Transfer["kind"], string>> = {
  import: "import",
  follow: "copy of a primary",
  export: "export",
  base_backup: "base backup",
};

function Clusters({ items, rate }: { readonly items: readonly Transfer[]; readonly rate: Rate }) {
  return (
    <Table
      label="Clusters that come and go"
      isInCard
      head={
        <>
          <th scope="col">What</th>
          <th scope="col">Branch</th>
          <th scope="col">State</th>
          <th scope="col" class="is-number">Size</th>
          <th scope="col" class="is-number">Rate</th>
          <th scope="col" class="is-number">Took</th>
        </>
      }
    >
      {items.map((item) => {
        const ms = Date.parse(item.ended_at ?? new Date().toISOString()) - Date.parse(item.started_at);
        return (
          <tr key={item.id}>
            <td class="is-whole">
              {KINDS[item.kind]}
              <p class="hint mono">{item.peer}</p>
            </td>
            <td>{item.branch ?? "–"}</td>
            <td>
              <span class={`badge is-${item.status}`}>{item.status}</span>
              {item.status === "running" && item.step === "wal" && <p class="hint">applying its WAL</p>}
              {item.error !== null && <p class="hint is-problem">{item.error}</p>}
            </td>
            <td class="is-number">
              {formatBytes(item.bytes)}
              {item.status === "running" && item.estimated_bytes !== null && <Progress {...item} />}
            </td>
            <td class="is-number">
              {item.status === "running"
                ? rate(nameOf(item.id))
                : `${formatBytes(item.bytes / Math.max(ms / 1_000, 0.001))}/s`}
            </td>
            <td class="is-number">
              {formatTook(ms)}
              {item.ended_at !== null && <p class="hint">{formatAgo(item.ended_at)}</p>}
            </td>
          </tr>
        );
      })}
    </Table>
  );
}

function Progress({ bytes, estimated_bytes }: Pick<Transfer, "bytes" | "estimated_bytes">) {
  const all = Math.max(estimated_bytes ?? 0, bytes, 1);
  return (
    <>
      <p class="hint">of some {formatBytes(all)}</p>
      <meter min={0} max={all} value={bytes} aria-label="How much of it" />
    </>
  );
}

function Follows({ items, rate }: { readonly items: readonly Follow[]; readonly rate: Rate }) {
  return (
    <Table
      label="Branches that follow"
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
