/** The first page: the branches of a tenant on a time line, and what can be done at a moment. */
import { useMemo, useState } from "preact/hooks";
import { callAll } from "../api.ts";
import type { Branch, BranchTimes } from "../contract.ts";
import { usePoll } from "../poll.ts";
import { go, to } from "../router.ts";
import { layOut } from "../time_line/layout.ts";
import { type Choice, TimeLine } from "../time_line/time_line.tsx";
import { Header, Loaded, Search } from "../ui/parts.tsx";
import { Moment } from "./moment.tsx";

const BRANCHES_MS = 4_000;
/** A list of many is work for the server. */
const MANY = 100;
const MANY_MS = 15_000;
const TIMES_MS = 60_000;
/** The server opens each branch for them, which takes some milliseconds the first time. */
const TIMES_AT_ONCE = 150;

export function TimeLinePage({ tenant }: { readonly tenant: string }) {
  const branches = usePoll(
    () => callAll("branchList", { tenant }),
    (found = []) => found.length > MANY ? MANY_MS : BRANCHES_MS,
    tenant,
  );
  const names = branches.data?.map(({ timeline_id }) => timeline_id).join() ?? "";
  // While the times of a changed list are asked for, the ones before still hold.
  const [times, setTimes] = useState<ReadonlyMap<string, BranchTimes>>(new Map());
  const history = usePoll(
    async () => {
      if (names === "") return;
      await callAll("tenantHistory", { tenant }, TIMES_AT_ONCE, (items) => {
        setTimes((before) => new Map([...before, ...items.map((item) => [item.id, item] as const)]));
      });
    },
    TIMES_MS,
    `${tenant} ${names}`,
  );
  const [filter, setFilter] = useState("");
  const [chosen, setChosen] = useState<Choice>();
  const all = branches.data;
  const lanes = useMemo(
    () => layOut((all ?? []).filter(({ name }) => name.includes(filter.trim())), times),
    [all, times, filter],
  );
  const branch = all?.find(({ id }) => id === chosen?.id);

  return (
    <>
      <Header
        title="Time line"
        about="Every branch over time. Click a line to look at that moment, to branch from it, or to go back to it."
      >
        <Search label="Find a branch" value={filter} onInput={setFilter} />
      </Header>
      <Loaded polled={{ data: all, error: branches.error ?? history.error }} what="branches">
        {(all) => (
          <div class={`tl-page ${branch === undefined ? "" : "has-moment"}`}>
            <div class="tl-main">
              {lanes.length === 0 && <p class="empty">No branch has “{filter}” in its name.</p>}
              <TimeLine tenant={tenant} lanes={lanes} chosen={chosen} onChoose={setChosen} />
              <Legend branches={all} />
            </div>
            {branch !== undefined && chosen !== undefined && (
              <Moment
                key={chosen.id}
                tenant={tenant}
                branch={branch}
                at={chosen.at}
                onChange={(at) => setChosen({ id: branch.id, at })}
                onClose={() => setChosen(undefined)}
                onMade={async (made) => {
                  await branches.reload();
                  go(to.branch(tenant, made.id));
                }}
                onRestored={branches.reload}
              />
            )}
          </div>
        )}
      </Loaded>
    </>
  );
}

function Legend({ branches }: { readonly branches: readonly Branch[] }) {
  const awake = branches.filter(({ compute }) => compute.state === "awake").length;
  return (
    <p class="legend">
      <span>{branches.length} {branches.length === 1 ? "branch" : "branches"}, {awake} awake</span>
      <span>
        <i class="swatch is-awake" /> awake
      </span>
      <span>
        <i class="swatch is-asleep" /> asleep: a client wakes it
      </span>
      <span>
        <i class="swatch is-kept" /> history that can be read
      </span>
      <span class="keys">
        <kbd>scroll</kbd> zooms, <kbd>drag</kbd> moves, so do <kbd>← → ↑ ↓</kbd> <kbd>+</kbd> <kbd>−</kbd>
      </span>
    </p>
  );
}
