/** Who has changed what, and who was refused: the ends of the audit logs. */
import { useState } from "preact/hooks";
import { call } from "../api.ts";
import { formatAgo, formatTime } from "../format.ts";
import { usePoll } from "../poll.ts";
import { Header, Loaded, Search, Table } from "../ui/parts.tsx";

const POLL_MS = 5_000;
const SHOWN = 300;

export function AuditPage() {
  const polled = usePoll(() => call("auditList", {}, { query: { limit: String(SHOWN) } }), POLL_MS, "");
  const [filter, setFilter] = useState("");
  return (
    <>
      <Header
        title="Audit log"
        about="Who has changed what, over the API and at the page server, and who was refused."
      >
        <Search label="Find in the audit log" placeholder="Find in it" value={filter} onInput={setFilter} />
      </Header>
      <Loaded polled={polled} what="the audit log">
        {({ items }) => {
          const wanted = filter.trim().toLowerCase();
          const found = items.filter((item) => JSON.stringify(item).toLowerCase().includes(wanted));
          if (found.length === 0) {
            return (
              <p class="empty">
                {wanted === "" ? "Nothing has been changed yet." : "Nothing in it is like that."}
              </p>
            );
          }
          return (
            <Table
              label="Audit log"
              head={
                <>
                  <th scope="col">When</th>
                  <th scope="col">Who</th>
                  <th scope="col">What</th>
                  <th scope="col">Outcome</th>
                  <th scope="col">From</th>
                </>
              }
            >
              {found.map((item, i) => (
                <tr key={`${item.time} ${i}`}>
                  <td title={formatTime(Date.parse(item.time))} class="no-wrap">{formatAgo(item.time)}</td>
                  <td title={item.token}>
                    {item.for}
                    <p class="hint">{item.scope}</p>
                  </td>
                  <td class="is-name">
                    {item.command.replaceAll("_", " ")}
                    <p class="hint mono break">
                      {Object.entries(item.args).map(([name, value]) => `${name}=${value}`).join(" ")}
                    </p>
                  </td>
                  <td>
                    <span class={`badge is-${OUTCOMES[item.outcome]}`}>{item.outcome}</span>
                    {item.error !== null && <p class="hint is-problem">{item.error}</p>}
                  </td>
                  <td class="mono no-wrap">
                    {item.client}
                    <p class="hint">{item.source === "api" ? "API" : "page server"}</p>
                  </td>
                </tr>
              ))}
            </Table>
          );
        }}
      </Loaded>
    </>
  );
}

const OUTCOMES = { done: "finished", refused: "expired", failed: "failed" };
