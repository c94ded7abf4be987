/** What was done over the API, and how it goes. */
import { call } from "../api.ts";
import { formatAgo, formatTime, formatTook } from "../format.ts";
import { usePoll } from "../poll.ts";
import { Header, Loaded, Table } from "../ui/parts.tsx";

const POLL_MS = 2_000;

export function OperationsPage({ tenant }: { readonly tenant: string }) {
  const polled = usePoll(() => call("operationList", { tenant }, { query: {} }), POLL_MS, tenant);
  return (
    <>
      <Header title="Operations" about="Changes made over the API, newest first." />
      <Loaded polled={polled} what="operations">
        {({ items }) =>
          items.length === 0 ? <p class="empty">Nothing has been changed over the API yet.</p> : (
            <Table
              label="Operations"
              head={
                <>
                  <th scope="col">What</th>
                  <th scope="col">Branch</th>
                  <th scope="col">State</th>
                  <th scope="col">Began</th>
                  <th scope="col" class="is-number">Took</th>
                </>
              }
            >
              {items.map((item) => (
                <tr key={item.id}>
                  <td class="is-whole">{item.action.replaceAll("_", " ")}</td>
                  <td class="mono">{item.branch ?? ""}</td>
                  <td>
                    <span class={`badge is-${item.status}`}>{item.status}</span>
                    {item.status === "running" && item.progress !== null && (
                      <span class="hint">{item.progress}</span>
                    )}
                    {item.error !== null && <p class="hint is-problem">{item.error}</p>}
                  </td>
                  <td title={formatTime(Date.parse(item.created_at))}>{formatAgo(item.created_at)}</td>
                  <td class="is-number">
                    {item.status === "running"
                      ? "…"
                      : formatTook(Date.parse(item.updated_at) - Date.parse(item.created_at))}
                  </td>
                </tr>
              ))}
            </Table>
          )}
      </Loaded>
    </>
  );
}
