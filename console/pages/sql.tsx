/** SQL on a branch, as it is or as it was. */
import { useEffect, useRef, useState } from "preact/hooks";
import { call, callAll, sql, SqlError, type SqlResult, toError } from "../api.ts";
import type { Branch } from "../contract.ts";
import { formatAgo, formatTime, formatTook, JSON_TYPES, NUMBER_TYPES, toCsv, toJson } from "../format.ts";
import { usePoll } from "../poll.ts";
import { go, place, to } from "../router.ts";
import { SqlEditor } from "../sql/editor.tsx";
import { MomentSlider } from "../sql/moment_slider.tsx";
import { readPlan } from "../sql/plan.ts";
import { PlanTree } from "../sql/plan_tree.tsx";
import { Tables } from "../sql/tables.tsx";
import { useCatalog } from "../sql/use_catalog.ts";
import { useStore } from "../store.ts";
import { Button, Field, Header, Loaded, Select } from "../ui/parts.tsx";

const BRANCHES_MS = 10_000;
/** More rows than anybody reads make a browser slow. All of them are in the export. */
const SHOWN_MAX = 500;
const HISTORY_MAX = 50;
const DRAFT_KEY = "zenith.sql";
const HISTORY_KEY = "zenith.sql.history";
/** What somebody wants to know first. */
const FIRST = `SELECT table_schema, table_name
FROM information_schema.tables
WHERE table_schema NOT IN ('pg_catalog', 'information_schema')
ORDER BY table_schema, table_name`;

export function SqlPage({ tenant }: { readonly tenant: string }) {
  const polled = usePoll(() => callAll("branchList", { tenant }), BRANCHES_MS, tenant);
  return (
    <>
      <Header title="SQL" about="One statement at a time, each in a session of its own." />
      <Loaded polled={polled} what="branches">
        {(branches) => <Editor tenant={tenant} branches={branches} />}
      </Loaded>
    </>
  );
}

interface Outcome {
  readonly result?: SqlResult;
  readonly error?: Error;
  readonly statement: string;
  /** What was put before it. */
  readonly prefix: string;
  /** Where the statement begins in the editor. */
  readonly offset: number;
  readonly tookMs: number;
}

function Editor({ tenant, branches }: { readonly tenant: string; readonly branches: readonly Branch[] }) {
  const { query } = useStore(place);
  const wanted = query.get("branch");
  const at = query.get("at") ?? "";
  const branch = branches.find(({ id, name }) => id === wanted || name === wanted) ??
    branches.find(({ name }) => name === "main") ?? branches[0];
  const [text, setText] = useState(sessionStorage.getItem(DRAFT_KEY) ?? FIRST);
  const [role, setRole] = useState("zenith_owner");
  const [database, setDatabase] = useState("postgres");
  const [outcome, setOutcome] = useState<Outcome>();
  const [running, setRunning] = useState<AbortController>();
  const [past, setPast] = useState<readonly string[]>(readHistory);
  const area = useRef<HTMLTextAreaElement>(null);
  // Nobody should have to look for the answer.
  const answer = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const element = answer.current;
    if (element === null || outcome === undefined) return;
    if (element.getBoundingClientRect().top > innerHeight * 0.7) element.scrollIntoView({ block: "nearest" });
  }, [outcome]);
  useEffect(() => sessionStorage.setItem(DRAFT_KEY, text), [text]);
  // Nobody waits for an answer on a page that is gone.
  useEffect(() => () => running?.abort(), [running]);

  const [isAnalyzed, setAnalyzed] = useState(false);
  const moment = at === "" ? undefined : at;
  const { ask, ...names } = useCatalog(
    `${branch?.id} ${at} ${database} ${role}`,
    branch?.compute.state === "awake" && moment === undefined,
    async () => (await call("computeUri", { tenant, branch: branch!.id }, { query: { role, database } })).uri,
    moment,
  );

  if (branch === undefined) return <p class="empty">There is no branch to ask.</p>;

  const run = async (prefix = "") => {
    const { selectionStart, selectionEnd } = area.current!;
    const isPart = selectionEnd > selectionStart;
    const raw = isPart ? text.slice(selectionStart, selectionEnd) : text;
    await runStatement(raw, isPart ? selectionStart : 0, prefix);
  };
  const runStatement = async (raw: string, offset: number, prefix: string) => {
    if (running !== undefined) return;
    const statement = raw.replace(/[;\s]+$/, "");
    if (statement.trim() === "") return;
    const stop = new AbortController();
    setRunning(stop);
    const startedMs = performance.now();
    const done = (found: Pick<Outcome, "result" | "error">) => {
      setOutcome({ ...found, statement, prefix, offset, tookMs: performance.now() - startedMs });
    };
    try {
      const { uri } = await call("computeUri", { tenant, branch: branch.id }, { query: { role, database } });
      done({ result: await sql(uri, prefix + statement, moment, stop.signal) });
      ask();
    } catch (error) {
      if (!stop.signal.aborted) done({ error: toError(error) });
    } finally {
      setRunning(undefined);
      const kept = [statement, ...past.filter((one) => one !== statement)].slice(0, HISTORY_MAX);
      setPast(kept);
      sessionStorage.setItem(HISTORY_KEY, JSON.stringify(kept));
    }
  };
  const setMoment = (value: string) =>
    go(to.sql(tenant, branch.id, value === "" ? undefined : value), "replace");
  const explain = () =>
    run(isAnalyzed ? "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " : "EXPLAIN (FORMAT JSON) ");

  return (
    <div class="sql">
      <div class="card sql-card">
        <div class="sql-target">
          <Select
            label="Branch"
            value={branch.id}
            options={branches.map(({ id, name }) => [id, name])}
            onChange={(id) => go(to.sql(tenant, id, at === "" ? undefined : at), "replace")}
          />
          <Field label="Database" value={database} onInput={setDatabase} />
          <Field label="Role" value={role} onInput={setRole} />
        </div>
        <div class="sql-moment">
          <Field
            label="Moment, read-only"
            value={at}
            placeholder="now"
            isMono
            onInput={(value) => setMoment(value.trim())}
          />
          <MomentSlider key={branch.id} tenant={tenant} branch={branch} at={at} onChange={setMoment} />
        </div>
        {at !== "" && (
          <div class="notice is-past">
            <p>
              You look at <strong>{branch.name}</strong> as it was at {momentOf(at)}.
            </p>
            <button
              type="button"
              class="button is-plain is-small"
              onClick={() => go(to.sql(tenant, branch.id), "replace")}
            >
              Back to now
            </button>
          </div>
        )}
        <Tables
          {...names}
          onWanted={ask}
          onChoose={(statement) => {
            setText(statement);
            void runStatement(statement, 0, "");
          }}
        />
        <SqlEditor
          area={area}
          text={text}
          onInput={setText}
          onRun={() => void run()}
          catalog={names.catalog}
          onWanted={ask}
        />
        <div class="row">
          <Button kind="primary" isBusy={running !== undefined} onClick={() => void run()}>
            {running === undefined
              ? "Run"
              : branch.compute.state === "awake" && at === ""
              ? "Running …"
              : "Waking …"}
          </Button>
          {running !== undefined && <Button onClick={() => running.abort()}>Stop waiting</Button>}
          <Button isDisabled={running !== undefined} onClick={() => void explain()}>Explain</Button>
          <label class="check" title="EXPLAIN ANALYZE: the statement is run, with all that it changes">
            <input
              type="checkbox"
              checked={isAnalyzed}
              onChange={(event) => setAnalyzed(event.currentTarget.checked)}
            />
            and run it
          </label>
          <span class="hint">
            <kbd>Ctrl</kbd> <kbd>Enter</kbd> runs it, or what is selected. <kbd>Ctrl</kbd> <kbd>Space</kbd>
            {" "}
            offers names
          </span>
          <span class="grow" />
          {past.length > 0 && (
            <Select
              label="Earlier statements"
              isLabelHidden
              value=""
              options={[["", "Earlier …"], ...past.map((one) => [one, oneLine(one)] as const)]}
              onChange={(value) => value !== "" && setText(value)}
            />
          )}
        </div>
      </div>
      <div aria-live="polite" ref={answer}>
        {outcome?.error !== undefined && (
          <Failure outcome={outcome} error={outcome.error} editor={area.current} />
        )}
        {outcome?.result !== undefined && <Result outcome={outcome} result={outcome.result} />}
      </div>
    </div>
  );
}

/** By the clock of who looks, as all other times; the field has the one that can be copied. */
function momentOf(at: string): string {
  const ms = Date.parse(at);
  return Number.isNaN(ms) ? at : `${formatTime(ms)}, ${formatAgo(at)}`;
}

function readHistory(): readonly string[] {
  const found: unknown = JSON.parse(sessionStorage.getItem(HISTORY_KEY) ?? "[]");
  return Array.isArray(found) ? found.filter((one) => typeof one === "string") : [];
}

function oneLine(text: string): string {
  const line = text.replace(/\s+/g, " ");
  return line.length > 60 ? `${line.slice(0, 59)}…` : line;
}

function Failure(
  { outcome, error, editor }: {
    readonly outcome: Outcome;
    readonly error: Error;
    readonly editor: HTMLTextAreaElement | null;
  },
) {
  const position = error instanceof SqlError ? error.position : null;
  // PostgreSQL counts characters, a string UTF-16.
  const place = position === null ? -1 : position - 1 - outcome.prefix.length;
  const index = place < 0 ? undefined : [...outcome.statement].slice(0, place).join("").length;
  useEffect(() => {
    if (index === undefined || editor === null) return;
    const from = outcome.offset + index;
    const word = /^\w+|^./.exec(outcome.statement.slice(index))?.[0] ?? "";
    editor.focus();
    editor.setSelectionRange(from, from + word.length);
  }, [outcome]);
  return (
    <div class="notice is-danger" role="alert">
      <p>
        <strong>{error.message}</strong>
        {error instanceof SqlError && error.code !== null && <span class="mono">{error.code}</span>}
      </p>
      {index !== undefined && <pre class="caret" tabIndex={0}>{pointTo(outcome.statement, index)}</pre>}
      {error instanceof SqlError && error.detail !== null && <p>{error.detail}</p>}
      {error instanceof SqlError && error.hint !== null && <p class="hint">{error.hint}</p>}
    </div>
  );
}

/** The line, and below it a caret, as psql has it. */
function pointTo(statement: string, index: number): string {
  const start = statement.lastIndexOf("\n", index - 1) + 1;
  const end = statement.indexOf("\n", index);
  const number = statement.slice(0, start).split("\n").length;
  const head = `LINE ${number}: `;
  const line = statement.slice(start, end < 0 ? undefined : end);
  return `${head}${line}\n${" ".repeat(head.length + index - start)}^`;
}

function save(text: string, type: string, name: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
}

function Result({ outcome, result }: { readonly outcome: Outcome; readonly result: SqlResult }) {
  const { fields, rows, command, rowCount } = result;
  const names = fields.map(({ name }) => name);
  const isPlan = command === "EXPLAIN" && fields.length === 1 && JSON_TYPES.has(fields[0]!.dataTypeID);
  const plan = isPlan ? readPlan(rows[0]?.[0] ?? "") : undefined;
  if (plan !== undefined) return <PlanTree plan={plan} />;
  const counted = rowCount === null ? command : `${command}, ${rowCount} ${rowCount === 1 ? "row" : "rows"}`;
  return (
    <section class="card" aria-label="Result">
      <header>
        <p class="hint">{counted}, {formatTook(outcome.tookMs)} with the way there</p>
        {fields.length > 0 && (
          <div class="row">
            <Button onClick={() => save(toCsv(names, rows), "text/csv", "result.csv")}>Export CSV</Button>
            <Button onClick={() => save(toJson(fields, rows), "application/json", "result.json")}>
              Export JSON
            </Button>
          </div>
        )}
      </header>
      {fields.length > 0 && (
        <div class="table-scroll" tabIndex={0} role="region" aria-label="Rows">
          <table class="rows">
            <thead>
              <tr>
                {names.map((name, i) => (
                  <th key={i} scope="col" class={classOf(fields[i]!.dataTypeID)}>{name}</th>
                ))}
              </tr>
            </thead>
            <tbody>
              {rows.slice(0, SHOWN_MAX).map((row, i) => (
                <tr key={i}>
                  {row.map((value, j) => (
                    <td key={j} class={classOf(fields[j]!.dataTypeID)}>
                      {value === null ? <span class="null">NULL</span> : value}
                    </td>
                  ))}
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      {rows.length > SHOWN_MAX && (
        <p class="hint">The first {SHOWN_MAX} of {rows.length} rows. The export has all.</p>
      )}
    </section>
  );
}

function classOf(type: number): string {
  return NUMBER_TYPES.has(type) ? "is-number" : "";
}
