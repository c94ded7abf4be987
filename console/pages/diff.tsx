/** What differs between two moments of any branches: tables and their rows, sequences, the schema. */
import { useEffect, useMemo, useState } from "preact/hooks";
import { call, callAll, toError } from "../api.ts";
import type { Branch, ResultOf, RowsDiff, TableDiff } from "../contract.ts";
import { type Cell, sideBySide } from "../diff/side_by_side.ts";
import { quoteWord } from "../format.ts";
import { usePoll } from "../poll.ts";
import { go, place, to } from "../router.ts";
import { useStore } from "../store.ts";
import { Button, Card, Copy, Field, Header, Loaded, Loading, Problem, Select, Table } from "../ui/parts.tsx";

const BRANCHES_MS = 10_000;
const ROWS_MAX = 200;

export function DiffPage({ tenant }: { readonly tenant: string }) {
  const polled = usePoll(() => callAll("branchList", { tenant }), BRANCHES_MS, tenant);
  return (
    <>
      <Header
        title="Compare"
        about="Two moments of any branches: which rows, tables and sequences differ, and how the schema does."
      />
      <Loaded polled={polled} what="branches">
        {(branches) => <Comparison tenant={tenant} branches={branches} />}
      </Loaded>
    </>
  );
}

interface Point {
  readonly branch: string;
  /** RFC 3339, an LSN, or `-1h`; empty for the branch's end. */
  readonly moment: string;
}

function readPoint(text: string): Point {
  const at = text.indexOf("@");
  return at < 0 ? { branch: text, moment: "" } : { branch: text.slice(0, at), moment: text.slice(at + 1) };
}

function formatPoint({ branch, moment }: Point): string {
  return moment.trim() === "" ? branch : `${branch}@${moment.trim()}`;
}

function Comparison({ tenant, branches }: { readonly tenant: string; readonly branches: readonly Branch[] }) {
  const { query } = useStore(place);
  const asked = { from: query.get("from"), to: query.get("to"), database: query.get("database") };
  const first = branches.find(({ name }) => name === "main")?.name ?? branches[0]?.name ?? "";
  const [from, setFrom] = useState<Point>(readPoint(asked.from ?? `${first}@-1h`));
  const [until, setUntil] = useState<Point>(readPoint(asked.to ?? first));
  const [database, setDatabase] = useState(asked.database ?? "postgres");
  const [turn, setTurn] = useState(0);
  // Who comes here with another question, by a link or a step back, sees it.
  useEffect(() => {
    if (asked.from !== null) setFrom(readPoint(asked.from));
    if (asked.to !== null) setUntil(readPoint(asked.to));
  }, [asked.from, asked.to]);
  if (branches.length === 0) return <p class="empty">There is no branch to compare.</p>;
  const compare = () => {
    go(to.diff(tenant, formatPoint(from), formatPoint(until), database.trim() || "postgres"), "replace");
    setTurn((count) => count + 1);
  };
  return (
    <div class="stack-wide">
      <form
        class="card compare"
        onSubmit={(event) => {
          event.preventDefault();
          compare();
        }}
      >
        <PointFields title="Before" point={from} branches={branches} onChange={setFrom} />
        <button
          type="button"
          class="button is-quiet is-icon"
          aria-label="Swap before and after"
          title="Swap"
          onClick={() => {
            setFrom(until);
            setUntil(from);
          }}
        >
          ⇄
        </button>
        <PointFields title="After" point={until} branches={branches} onChange={setUntil} />
        <Field label="Database" value={database} onInput={setDatabase} />
        <Button kind="primary" type="submit">Compare</Button>
      </form>
      {asked.from !== null && asked.to !== null
        ? (
          <Answer
            key={`${asked.from} ${asked.to} ${asked.database} ${turn}`}
            tenant={tenant}
            from={asked.from}
            until={asked.to}
            database={asked.database ?? "postgres"}
          />
        )
        : (
          <p class="empty">
            A moment is a time, an LSN, or how long ago: <code>-5m</code>,{" "}
            <code>-1d</code>. Empty means now. Each side is read at its moment, so both can change meanwhile.
          </p>
        )}
    </div>
  );
}

function PointFields({ title, point, branches, onChange }: {
  readonly title: string;
  readonly point: Point;
  readonly branches: readonly Branch[];
  readonly onChange: (point: Point) => void;
}) {
  const names = branches.map(({ name }) => name);
  const all = names.includes(point.branch) ? names : [point.branch, ...names];
  return (
    <fieldset>
      <legend>{title}</legend>
      <Select
        label="Branch"
        value={point.branch}
        options={all.map((name) => [name, name])}
        onChange={(branch) => onChange({ ...point, branch })}
      />
      <Field
        label="Moment"
        value={point.moment}
        placeholder="now"
        isMono
        onInput={(moment) => onChange({ ...point, moment })}
      />
    </fieldset>
  );
}

interface Asked {
  readonly tenant: string;
  readonly from: string;
  readonly until: string;
  readonly database: string;
}

type Part<T> = { readonly data?: T; readonly error?: Error };

/** Asks once, and stops asking when the page is left. */
function useAnswers({ tenant, from, until, database }: Asked) {
  const [schema, setSchema] = useState<Part<ResultOf<"diffSchema">>>({});
  const [tables, setTables] = useState<Part<ResultOf<"diffTables">>>({});
  useEffect(() => {
    const { signal, abort } = newStop();
    const ask = async () => {
      let points = { from, to: until };
      try {
        const data = await call("diffSchema", { tenant }, { query: { ...points, database }, signal });
        setSchema({ data });
        // Both questions are about the same moments.
        points = { from: `${data.from.branch}@${data.from.lsn}`, to: `${data.to.branch}@${data.to.lsn}` };
      } catch (error) {
        if (signal.aborted) return;
        setSchema({ error: toError(error) });
      }
      try {
        setTables({ data: await call("diffTables", { tenant }, { query: { ...points, database }, signal }) });
      } catch (error) {
        if (!signal.aborted) setTables({ error: toError(error) });
      }
    };
    void ask();
    return abort;
  }, []);
  return { schema, tables };
}

function newStop() {
  const controller = new AbortController();
  return { signal: controller.signal, abort: () => controller.abort() };
}

function Answer(asked: Asked) {
  const { schema, tables } = useAnswers(asked);
  const { from, until, database } = asked;
  const command = `zenith branch diff ${quoteWord(from)} ${quoteWord(until)}` +
    (database === "postgres" ? "" : ` --db ${quoteWord(database)}`);
  const isSameProblem = schema.error !== undefined && schema.error.message === tables.error?.message;
  return (
    <>
      {tables.data !== undefined && (
        <p class="hint">
          <PointName point={tables.data.from} /> and <PointName point={tables.data.to} />
        </p>
      )}
      <Card title="Rows">
        {tables.error !== undefined
          ? <Problem error={tables.error} />
          : tables.data === undefined
          ? <Loading what="both moments" />
          : <Tables asked={asked} found={tables.data} />}
      </Card>
      {tables.data !== undefined && tables.data.sequences.length > 0 && (
        <Card title="Sequences">
          <Sequences found={tables.data.sequences} />
        </Card>
      )}
      {!isSameProblem && (
        <Card title="Schema">
          {schema.error !== undefined
            ? <Problem error={schema.error} />
            : schema.data === undefined
            ? <Loading what="both schemas" />
            : <Schema lines={schema.data.lines} from={from} until={until} />}
        </Card>
      )}
      <div class="copyable">
        <code>{command}</code>
        <Copy text={command} />
      </div>
    </>
  );
}

function PointName({ point }: { readonly point: { readonly branch: string; readonly lsn: string } }) {
  return (
    <>
      {point.branch} at <span class="mono">{point.lsn}</span>
    </>
  );
}

function Tables({ asked, found }: { readonly asked: Asked; readonly found: ResultOf<"diffTables"> }) {
  const [open, setOpen] = useState<string>();
  if (found.tables.length === 0) return <p class="empty is-small">All tables have the same rows.</p>;
  return (
    <Table
      label="Tables that differ"
      isInCard
      head={
        <>
          <th scope="col">Table</th>
          <th scope="col" class="is-number">Added</th>
          <th scope="col" class="is-number">Removed</th>
          <th scope="col" class="is-number">Changed</th>
          <th scope="col" class="is-number">Pages</th>
          <th scope="col">
            <span class="visually-hidden">Rows</span>
          </th>
        </>
      }
    >
      {found.tables.map((table) => {
        const name = `${table.schema}.${table.table}`;
        const isOpen = open === name;
        return [
          <tr key={name}>
            <td>
              <span class="mono">{name}</span>
              {table.notes.map((note) => <p key={note} class="hint">{note}</p>)}
            </td>
            <Count value={table.added_rows} kind="added" />
            <Count value={table.removed_rows} kind="removed" />
            <Count value={table.changed_rows} kind="changed" />
            <td class="is-number">{table.changed_pages ?? "all"}</td>
            <td class="is-number">
              {table.added_rows + table.removed_rows + table.changed_rows > 0 && (
                <button
                  type="button"
                  class="button is-quiet"
                  aria-expanded={isOpen}
                  aria-label={`Rows of ${name}`}
                  onClick={() => setOpen(isOpen ? undefined : name)}
                >
                  Rows
                </button>
              )}
            </td>
          </tr>,
          isOpen && (
            <tr key={`${name} rows`} class="inside">
              <td colSpan={6}>
                <Rows asked={asked} found={found} table={table} />
              </td>
            </tr>
          ),
        ];
      })}
    </Table>
  );
}

const SIGNS = { added: "+", removed: "−", changed: "~" };

function Count({ value, kind }: { readonly value: number; readonly kind: keyof typeof SIGNS }) {
  return (
    <td class={`is-number ${value === 0 ? "is-none" : `is-${kind}`}`}>
      {value === 0 ? "0" : `${SIGNS[kind]}${value.toLocaleString("en")}`}
    </td>
  );
}

function Rows({ asked, found, table }: {
  readonly asked: Asked;
  readonly found: ResultOf<"diffTables">;
  readonly table: TableDiff;
}) {
  const [part, setPart] = useState<Part<RowsDiff>>({});
  useEffect(() => {
    const { signal, abort } = newStop();
    const query = {
      from: `${found.from.branch}@${found.from.lsn}`,
      to: `${found.to.branch}@${found.to.lsn}`,
      database: asked.database,
      table: `${table.schema}.${table.table}`,
      limit: String(ROWS_MAX),
    };
    call("diffRows", { tenant: asked.tenant }, { query, signal }).then(
      (data) => setPart({ data }),
      (error) => signal.aborted || setPart({ error: toError(error) }),
    );
    return abort;
  }, []);
  const { data, error } = part;
  if (error !== undefined) return <Problem error={error} />;
  if (data === undefined) return <Loading what="rows" />;
  return (
    <>
      <table class="rows diff-rows" aria-label={`Rows of ${table.schema}.${table.table} that differ`}>
        <thead>
          <tr>
            <th scope="col">
              <span class="visually-hidden">Change</span>
            </th>
            {data.columns.map((name) => <th key={name} scope="col">{name}</th>)}
          </tr>
        </thead>
        <tbody>
          {data.rows.map(({ before, after }, i) => {
            const kind = before === null ? "added" : after === null ? "removed" : "changed";
            return (
              <tr key={i} class={`is-${kind}`}>
                <td>
                  <span aria-hidden="true">{SIGNS[kind]}</span>
                  <span class="visually-hidden">{kind}</span>
                </td>
                {data.columns.map((name, j) => (
                  <td key={name}>
                    {before !== null && after !== null && before[j] !== after[j]
                      ? (
                        <>
                          <del>
                            <Value value={before[j]} />
                          </del>
                          <span class="visually-hidden">is now</span>
                          <ins>
                            <Value value={after[j]} />
                          </ins>
                        </>
                      )
                      : <Value value={(after ?? before)?.[j]} />}
                  </td>
                ))}
              </tr>
            );
          })}
        </tbody>
      </table>
      {data.has_more && (
        <p class="hint">
          {ROWS_MAX} of them, in no particular order. <code>zenith branch diff --rows</code> prints all.
        </p>
      )}
    </>
  );
}

function Value({ value }: { readonly value: string | null | undefined }) {
  return value === null || value === undefined ? <span class="null">NULL</span> : <>{value}</>;
}

function Sequences({ found }: { readonly found: ResultOf<"diffTables">["sequences"] }) {
  return (
    <Table
      label="Sequences that differ"
      isInCard
      head={
        <>
          <th scope="col">Sequence</th>
          <th scope="col" class="is-number">Before</th>
          <th scope="col" class="is-number">After</th>
        </>
      }
    >
      {found.map(({ schema, sequence, only_in, before, after }) => (
        <tr key={`${schema}.${sequence}`}>
          <td class="mono">{schema}.{sequence}</td>
          <td class="is-number">{only_in === "b" ? "none" : before ?? "unused"}</td>
          <td class="is-number">{only_in === "a" ? "none" : after ?? "unused"}</td>
        </tr>
      ))}
    </Table>
  );
}

function Schema(
  { lines, from, until }: {
    readonly lines: readonly string[];
    readonly from: string;
    readonly until: string;
  },
) {
  const pairs = useMemo(() => sideBySide(lines), [lines]);
  if (pairs.length === 0) return <p class="empty is-small">The schemas are the same.</p>;
  return (
    <div class="table-scroll side-by-side" tabIndex={0} role="region" aria-label="Schemas side by side">
      <table>
        <thead>
          <tr>
            <th scope="col" colSpan={2}>{from}</th>
            <th scope="col" colSpan={2}>{until}</th>
          </tr>
        </thead>
        <tbody>
          {pairs.map(({ kind, left, right }, i) =>
            kind === "gap"
              ? (
                <tr key={i} class="gap">
                  <td colSpan={4}>⋯</td>
                </tr>
              )
              : (
                <tr key={i}>
                  <Line cell={left} kind={kind === "changed" && left !== undefined ? "removed" : undefined} />
                  <Line cell={right} kind={kind === "changed" && right !== undefined ? "added" : undefined} />
                </tr>
              )
          )}
        </tbody>
      </table>
    </div>
  );
}

function Line({ cell, kind }: { readonly cell: Cell | undefined; readonly kind: string | undefined }) {
  return (
    <>
      <td class={`line-number ${kind === undefined ? "" : `is-${kind}`}`}>{cell?.number}</td>
      <td class={`line ${kind === undefined ? "" : `is-${kind}`} ${cell === undefined ? "is-absent" : ""}`}>
        {kind !== undefined && <span class="visually-hidden">{kind}:</span>}
        {cell?.text}
      </td>
    </>
  );
}
