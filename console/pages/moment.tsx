/** What can be done at a moment of a branch: branch, look, restore, do it on the command line. */
import { useEffect, useRef, useState } from "preact/hooks";
import { call } from "../api.ts";
import type { Branch } from "../contract.ts";
import { formatAgo, formatTime, quoteWord, toRfc3339 } from "../format.ts";
import { useAction } from "../poll.ts";
import { go, to } from "../router.ts";
import { useLsn } from "../time_line/use_lsn.ts";
import { FormDialog } from "../ui/form_dialog.tsx";
import { Button, Copy, Field, Problem } from "../ui/parts.tsx";

interface Props {
  readonly tenant: string;
  readonly branch: Branch;
  /** In milliseconds since 1970; undefined for the branch's end. */
  readonly at: number | undefined;
  readonly onChange: (at: number | undefined) => void;
  readonly onClose: () => void;
  readonly onMade: (branch: Branch) => Promise<void>;
  readonly onRestored: () => Promise<void>;
}

export function Moment({ tenant, branch, at, onChange, onClose, onMade, onRestored }: Props) {
  const [name, setName] = useState("");
  const [isRestoring, setRestoring] = useState(false);
  const making = useAction();
  const lsn = useLsn(tenant, branch, at, Date.now());
  // In a narrow window it lies below the time line, where a click would seem to do nothing.
  const section = useRef<HTMLElement>(null);
  useEffect(() => {
    const { top } = section.current!.getBoundingClientRect();
    if (top > innerHeight * 0.7) section.current!.scrollIntoView({ block: "start" });
  }, [at]);
  const time = at === undefined ? undefined : toRfc3339(at);
  const point = time === undefined ? branch.name : `${branch.name}@${time}`;
  const make = () =>
    making.run(async () => {
      const made = await call("branchCreate", { tenant }, { body: { name: name.trim(), start: point } });
      await onMade(made);
    });

  return (
    <section class="card moment" aria-labelledby="moment-title" ref={section}>
      <header>
        <div>
          <h2 id="moment-title">{branch.name}</h2>
          <p class="hint">
            {time === undefined ? "at its end: all that is committed" : `as it was ${formatAgo(time)}`}
          </p>
        </div>
        <button type="button" class="button is-quiet is-icon" aria-label="Close" onClick={onClose}>×</button>
      </header>
      <Field
        label="Moment"
        type="datetime-local"
        step="0.001"
        value={at === undefined ? "" : formatTime(at, true).replace(" ", "T")}
        onInput={(value) => {
          const ms = Date.parse(value);
          onChange(Number.isNaN(ms) || ms >= Date.now() ? undefined : ms);
        }}
        hint={at === undefined ? "Empty means the end of the branch." : "By your clock, to the millisecond."}
      />
      <p class={`lsn ${lsn.isProblem ? "is-problem" : ""}`}>
        <span>{lsn.isProblem ? lsn.text : `LSN ${lsn.text}`}</span>
        {lsn.lsn !== undefined && <Copy text={lsn.lsn} />}
      </p>
      <hr />
      <form
        onSubmit={(event) => {
          event.preventDefault();
          void make();
        }}
      >
        <Field
          label="New branch from here"
          value={name}
          onInput={setName}
          placeholder="its name"
          isRequired
        />
        <Button kind="primary" type="submit" isBusy={making.isBusy}>Create branch</Button>
        <Problem error={making.error} />
      </form>
      <hr />
      <div class="stack">
        <Button onClick={() => go(to.sql(tenant, branch.id, time))}>
          {time === undefined ? "Query it" : "Query this moment, read-only"}
        </Button>
        {time !== undefined && (
          <Button onClick={() => go(to.diff(tenant, point, branch.name))}>Compare it with now</Button>
        )}
        {time !== undefined && (
          <Button onClick={() => setRestoring(true)}>Restore {branch.name} to here …</Button>
        )}
      </div>
      <hr />
      <p class="label">On the command line</p>
      <div class="copyable">
        <code>
          zenith branch {name.trim() || "NAME"} <span class="whole">{point}</span>
        </code>
        <Copy text={`zenith branch ${quoteWord(name.trim() || "NAME")} ${quoteWord(point)}`} />
      </div>
      {isRestoring && time !== undefined && (
        <Restore
          tenant={tenant}
          branch={branch}
          time={time}
          onClose={() => setRestoring(false)}
          onDone={async () => {
            setRestoring(false);
            onClose();
            await onRestored();
          }}
        />
      )}
    </section>
  );
}

function Restore({ tenant, branch, time, onClose, onDone }: {
  readonly tenant: string;
  readonly branch: Branch;
  readonly time: string;
  readonly onClose: () => void;
  readonly onDone: () => Promise<void>;
}) {
  const [keepAs, setKeepAs] = useState(`${branch.name}-before`);
  return (
    <FormDialog
      title={`Restore ${branch.name}`}
      verb="Restore"
      onClose={onClose}
      act={async () => {
        const keep_as = keepAs.trim();
        await call("branchRestore", { tenant, branch: branch.id }, {
          body: { source: `${branch.name}@${time}`, ...(keep_as === "" ? {} : { keep_as }) },
        });
        await onDone();
      }}
    >
      <p>
        {branch.name} becomes what it was at{" "}
        {formatTime(Date.parse(time), true)}. Its sessions end; its host name and its password stay.
      </p>
      <Field
        label="Keep what it is now as"
        value={keepAs}
        onInput={setKeepAs}
        hint="A branch of this name has everything that is on it now. Nothing is lost."
      />
    </FormDialog>
  );
}
