/** One branch: what it is, its Postgres, how to connect, and what changes or ends it. */
import { useState } from "preact/hooks";
import { call } from "../api.ts";
import type { Branch } from "../contract.ts";
import { formatAgo, formatBytes, formatTime, quoteWord } from "../format.ts";
import { useAction, usePoll } from "../poll.ts";
import { go, to } from "../router.ts";
import { Confirm } from "../ui/form_dialog.tsx";
import { Button, Card, Fact, Facts, Field, Header, Loaded, Loading, Problem } from "../ui/parts.tsx";
import { StateDot } from "../ui/state_dot.tsx";
import { BranchLog } from "./branch_log.tsx";
import { BranchNow } from "./branch_now.tsx";
import { Connect } from "./connect.tsx";

const POLL_MS = 3_000;

interface Props {
  readonly tenant: string;
  readonly id: string;
}

export function BranchPage({ tenant, id }: Props) {
  const polled = usePoll(() => call("branchGet", { tenant, branch: id }), POLL_MS, `${tenant} ${id}`);
  const branch = polled.data;
  if (branch === undefined) {
    return polled.error === undefined ? <Loading what="the branch" /> : (
      <>
        <Header title="No such branch" />
        <Problem error={polled.error} />
        <p>
          <a href={to.timeLine(tenant)}>Back to the time line</a>
        </p>
      </>
    );
  }
  const own = { tenant, branch, reload: polled.reload };
  return (
    <>
      <Header
        title={<span class="mono-title">{branch.name}</span>}
        about={branch.parent_name === null ? "It comes from no other branch." : (
          <>
            Comes from {branch.parent_name} at <span class="mono">{branch.parent_lsn}</span>
          </>
        )}
      >
        <a class="button is-plain" href={to.sql(tenant, branch.id)}>Query</a>
        <a
          class="button is-plain"
          href={branch.parent_name === null
            ? to.diff(tenant, `${branch.name}@-1h`, branch.name)
            : to.diff(tenant, branch.parent_name, branch.name)}
        >
          {branch.parent_name === null ? "Compare with an hour ago" : `Compare with ${branch.parent_name}`}
        </a>
        <a class="button is-plain" href={to.layers(tenant, branch.id)}>Layers</a>
        <a class="button is-plain" href={to.timeLine(tenant)}>Time line</a>
      </Header>
      <Problem error={polled.error} />
      {branch.compute.state === "awake" && <BranchNow key={branch.id} tenant={tenant} branch={branch} />}
      <div class="grid columns">
        <div>
          <Compute {...own} />
          <Connect key={branch.id} tenant={tenant} branch={branch} />
          <PostgresSettings tenant={tenant} branch={branch} />
          <Danger {...own} />
        </div>
        <div>
          <About branch={branch} />
          <Settings key={`${branch.id} ${branch.name}`} {...own} />
        </div>
      </div>
      <BranchLog key={branch.id} tenant={tenant} branch={branch} />
    </>
  );
}

interface Own {
  readonly tenant: string;
  readonly branch: Branch;
  readonly reload: () => Promise<void>;
}

function Compute({ tenant, branch, reload }: Own) {
  const { state, sessions, host, suspend_after, failure } = branch.compute;
  const doing = useAction();
  const run = (what: "computeStart" | "computeStop") =>
    doing.run(async () => {
      const named = { tenant, branch: branch.id };
      if (what === "computeStart") await call(what, named);
      else await call(what, named, { body: {} });
      await reload();
    });
  return (
    <Card
      title="Postgres"
      aside={state === "awake"
        ? <Button isBusy={doing.isBusy} onClick={() => void run("computeStop")}>Stop</Button>
        : (
          <Button kind="primary" isBusy={doing.isBusy} onClick={() => void run("computeStart")}>
            Start
          </Button>
        )}
    >
      <p class="state">
        <StateDot state={state} />{" "}
        {doing.isBusy ? (state === "awake" ? "Stopping …" : "Waking …") : SAYS[state]}
      </p>
      <Facts>
        <Fact name="Sessions">{sessions}</Fact>
        <Fact name="Sleeps after">{sleepsAfter(suspend_after)}</Fact>
        <Fact name="Host">
          <span class="mono break">{host}</span>
        </Fact>
      </Facts>
      {failure !== null && (
        <div class="notice is-danger">
          <p>The last start failed: {failure}</p>
        </div>
      )}
      <Problem error={doing.error} />
    </Card>
  );
}

function sleepsAfter(duration: string | null): string {
  if (duration === null) return "the server's default";
  return /^0/.test(duration) ? "never" : duration;
}

const SAYS = {
  awake: "Awake",
  asleep: "Asleep: the next client wakes it",
  crashed: "Crashed: the next client starts it again",
};

function About({ branch }: { readonly branch: Branch }) {
  const size = (bytes: number | null) => bytes === null ? "not known yet" : formatBytes(bytes);
  return (
    <Card title="Branch">
      <Facts>
        <Fact name="Size of its databases">{size(branch.logical_size_bytes)}</Fact>
        <Fact name="On disk, what it alone holds">{size(branch.physical_size_bytes)}</Fact>
        <Fact name="Position">
          <span class="mono">{branch.last_lsn}</span>
        </Fact>
        <Fact name="Known since">{formatTime(Date.parse(branch.created_at))}</Fact>
        <Fact name="Expires">
          {branch.expires_at === null
            ? "never"
            : `${formatAgo(branch.expires_at)}, ${formatTime(Date.parse(branch.expires_at))}`}
        </Fact>
        <Fact name="Protected">{branch.protected ? "yes" : "no"}</Fact>
        <Fact name="Id">
          <span class="mono">{branch.id}</span>
        </Fact>
      </Facts>
    </Card>
  );
}

function Settings({ tenant, branch, reload }: Own) {
  const [name, setName] = useState(branch.name);
  const [suspend, setSuspend] = useState(branch.compute.suspend_after ?? "");
  const [expires, setExpires] = useState("");
  const [isProtected, setProtected] = useState(branch.protected);
  const saving = useAction();
  const body = {
    ...(name.trim() === branch.name ? {} : { name: name.trim() }),
    ...(isProtected === branch.protected ? {} : { protected: isProtected }),
    ...(suspend.trim() === (branch.compute.suspend_after ?? "")
      ? {}
      : { suspend_after: suspend.trim() === "" ? null : suspend.trim() }),
    ...(expires.trim() === "" ? {} : { expires_in: expires.trim() === "never" ? null : expires.trim() }),
  };
  return (
    <Card title="Settings">
      <form
        onSubmit={(event) => {
          event.preventDefault();
          void saving.run(async () => {
            await call("branchUpdate", { tenant, branch: branch.id }, { body });
            setExpires("");
            await reload();
          });
        }}
      >
        <Field
          label="Name"
          value={name}
          onInput={setName}
          isRequired
          hint="Its Postgres has to be asleep to get another one."
        />
        <Field
          label="Sleeps after"
          value={suspend}
          onInput={setSuspend}
          placeholder="the server's default"
          hint="5m, 2h; 0s for never. Sessions count as use."
        />
        <Field
          label="Expires in"
          value={expires}
          onInput={setExpires}
          placeholder={branch.expires_at === null ? "never" : formatAgo(branch.expires_at)}
          hint="12h, 7d, or never. It is deleted then."
        />
        <label class="check">
          <input
            type="checkbox"
            checked={isProtected}
            onChange={(event) => setProtected(event.currentTarget.checked)}
          />
          Protected: it can't be deleted or restored
        </label>
        <Problem error={saving.error} />
        <Button type="submit" isBusy={saving.isBusy} isDisabled={Object.keys(body).length === 0}>Save</Button>
      </form>
    </Card>
  );
}

const SETTINGS_MS = 30_000;

/** What `zenith pg config` shows. */
function PostgresSettings({ tenant, branch }: Pick<Own, "tenant" | "branch">) {
  const polled = usePoll(
    () => call("branchSettings", { tenant, branch: branch.id }),
    SETTINGS_MS,
    `${tenant} ${branch.id}`,
  );
  return (
    <Card title="PostgreSQL settings">
      <Loaded polled={polled} what="settings">
        {({ items }) => (
          <Facts>
            {items.map(({ name, value }) => (
              <Fact key={name} name={<span class="mono break">{name}</span>}>
                <span class="mono break">{value === "" ? "''" : value}</span>
              </Fact>
            ))}
          </Facts>
        )}
      </Loaded>
      <p class="hint">
        <code>ALTER SYSTEM</code> or <code>zenith pg config {quoteWord(branch.name)}</code>{" "}
        changes them. Branches that are made from now on have them too.
      </p>
    </Card>
  );
}

function Danger({ tenant, branch, reload }: Own) {
  const [asking, setAsking] = useState<"reset" | "delete">();
  const close = () => setAsking(undefined);
  return (
    <Card title="Danger zone" kind="danger">
      <ul class="dangers">
        {branch.parent_timeline_id !== null && (
          <li>
            <div>
              <strong>Reset to its parent</strong>
              <p class="hint">It becomes what {branch.parent_name ?? "its parent"} is now.</p>
            </div>
            <Button kind="danger" onClick={() => setAsking("reset")}>Reset …</Button>
          </li>
        )}
        <li>
          <div>
            <strong>Delete the branch</strong>
            <p class="hint">
              {branch.protected
                ? "It is protected: take that away first."
                : "With its data, and its Postgres."}
            </p>
          </div>
          <Button kind="danger" isDisabled={branch.protected} onClick={() => setAsking("delete")}>
            Delete …
          </Button>
        </li>
      </ul>
      {asking === "delete" && (
        <Confirm
          title={`Delete ${branch.name}`}
          word={branch.name}
          verb="Delete"
          onClose={close}
          act={async () => {
            await call("branchDelete", { tenant, branch: branch.id });
            go(to.timeLine(tenant), "replace");
          }}
        >
          <p>Its data are gone for good. Branches that come from it keep it from being deleted.</p>
        </Confirm>
      )}
      {asking === "reset" && (
        <Confirm
          title={`Reset ${branch.name}`}
          word={branch.name}
          verb="Reset"
          onClose={close}
          act={async () => {
            await call("branchReset", { tenant, branch: branch.id }, { body: {} });
            close();
            await reload();
          }}
        >
          <p>
            All that was changed on it since it left {branch.parent_name ?? "its parent"}{" "}
            is gone, unless other branches come from it.
          </p>
        </Confirm>
      )}
    </Card>
  );
}
