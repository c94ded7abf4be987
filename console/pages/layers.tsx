/** The layers of a branch as a map, and what the read of one page goes through. */
import { useMemo, useState } from "preact/hooks";
import { call, sql } from "../api.ts";
import type { ResultOf } from "../contract.ts";
import { formatBytes, lsnToNumber } from "../format.ts";
import { type Box, describeKey, type LayerMap, layOutLayers, type Part } from "../layers/map.ts";
import { useAction, usePoll } from "../poll.ts";
import { to } from "../router.ts";
import { Button, Card, Fact, Facts, Field, Header, Loaded, Problem, Table } from "../ui/parts.tsx";

const POLL_MS = 15_000;
const HEIGHT = 420;

interface Props {
  readonly tenant: string;
  readonly id: string;
}

type Read = ResultOf<"branchPage">;

export function LayersPage({ tenant, id }: Props) {
  const polled = usePoll(
    async () => {
      const [branch, layers] = await Promise.all([
        call("branchGet", { tenant, branch: id }),
        call("branchLayers", { tenant, branch: id }),
      ]);
      return { branch, parts: layers.items };
    },
    POLL_MS,
    `${tenant} ${id}`,
  );
  const { branch } = polled.data ?? {};
  return (
    <>
      <Header
        title={branch === undefined ? "Layers" : `Layers of ${branch.name}`}
        about="The files that the page server has of it: which keys, from which LSN to which, and what keeps them."
      >
        {branch !== undefined && <a class="button is-plain" href={to.branch(tenant, branch.id)}>Branch</a>}
      </Header>
      <Loaded polled={polled} what="layers">
        {({ branch, parts }) => <Layers tenant={tenant} id={branch.id} parts={parts} />}
      </Loaded>
    </>
  );
}

function Layers({ tenant, id, parts }: Props & { readonly parts: readonly Part[] }) {
  const map = useMemo(() => layOutLayers(parts), [parts]);
  const [chosen, setChosen] = useState<number>();
  const [read, setRead] = useState<Read>();
  const [names, setNames] = useState<ReadonlyMap<string, string>>(new Map());
  const memory = parts.reduce((sum, part) => sum + part.memory_bytes, 0);
  const free = map.boxes.filter(({ layer }) => layer.needed_by === null);
  const box = chosen === undefined ? undefined : map.boxes[chosen];
  return (
    <div class="stack-wide">
      <Card title="Map">
        <p class="hint">
          {map.boxes.length} {map.boxes.length === 1 ? "layer" : "layers"},{" "}
          {formatBytes(sizeOf(map.boxes))}, and {formatBytes(memory)} in memory. {free.length === 0
            ? "Garbage collection would free nothing: all is within the history that is kept."
            : `Garbage collection would free up to ${formatBytes(sizeOf(free))} of ${free.length} ${
              free.length === 1 ? "layer that is" : "layers that are"
            } older than the history that is kept; what is newest in them stays.`}
        </p>
        {map.boxes.length === 0
          ? <p class="empty is-small">Nothing is in layers yet: what there is fits into memory.</p>
          : <LayerBoxes map={map} parts={parts} read={read} chosen={chosen} onChoose={setChosen} />}
        {box !== undefined && <About box={box} names={names} />}
        <Legend />
      </Card>
      <ReadOfPage
        tenant={tenant}
        id={id}
        parts={parts}
        read={read}
        onRead={setRead}
        onNames={setNames}
      />
    </div>
  );
}

function sizeOf(boxes: readonly Box[]): number {
  return boxes.reduce((sum, { layer }) => sum + layer.size_bytes, 0);
}

function LayerBoxes({ map, parts, read, chosen, onChoose }: {
  readonly parts: readonly Part[];
  readonly map: LayerMap;
  readonly read: Read | undefined;
  readonly chosen: number | undefined;
  readonly onChoose: (index: number) => void;
}) {
  const { boxes, lsns } = map;
  const x = read === undefined ? undefined : map.xOf(read.key);
  const versions = read?.versions.map((version) => ({ ...version, y: map.yOf(version.lsn) })) ?? [];
  const touched = new Set(
    boxes.flatMap((box, i) => x !== undefined && versions.some(({ y }) => holds(box, x, y)) ? [i] : []),
  );
  const memory = parts.filter(({ memory_bytes }) => memory_bytes > 0).map((part) => ({
    part,
    top: map.yOf(part.end_lsn),
    bottom: map.yOf(part.disk_consistent_lsn),
  })).filter(({ top, bottom }) => bottom > top);
  const every = Math.ceil(lsns.length / 12);
  return (
    <div class="layers" style={{ height: `${HEIGHT}px` }}>
      <div class="layers-axis mono" aria-hidden="true">
        {lsns.filter((_, i) => i % every === 0 || i === lsns.length - 1).map(({ text, at }) => (
          <span key={text} style={{ top: `${at * 100}%` }}>{text}</span>
        ))}
      </div>
      <ul class="layers-area" aria-label="Layers, newest first">
        {memory.map(({ part, top, bottom }) => (
          <li
            key={part.timeline_id}
            class="layer-memory"
            style={{ top: `${top * 100}%`, height: `${Math.max(bottom - top, 0.01) * 100}%` }}
          >
            in memory: {formatBytes(part.memory_bytes)}
          </li>
        ))}
        {boxes.map(({ layer, part, left, right, top, bottom }, i) => (
          <li key={`${part.timeline_id} ${i}`}>
            <button
              type="button"
              class={`layer is-${layer.kind} ${layer.needed_by === null ? "is-free" : ""} ${
                touched.has(i) ? "is-read" : ""
              }`}
              aria-pressed={chosen === i}
              aria-label={`${layer.kind} layer of ${
                part.branch ?? part.timeline_id
              }, ${layer.start_lsn} to ${layer.end_lsn}, ${formatBytes(layer.size_bytes)}${
                touched.has(i) ? ", read" : ""
              }${layer.cached_bytes > 0 ? ", warm" : ""}`}
              style={{
                left: `${left * 100}%`,
                width: `${Math.max(right - left, 0.004) * 100}%`,
                top: `${top * 100}%`,
                height: `${Math.max(bottom - top, 0.006) * 100}%`,
              }}
              onClick={() => onChoose(i)}
            >
              {layer.cached_bytes > 0 && (
                <i
                  class="layer-heat"
                  style={{ width: `${Math.min(layer.cached_bytes / layer.size_bytes, 1) * 100}%` }}
                />
              )}
            </button>
          </li>
        ))}
      </ul>
      {x !== undefined && (
        <div class="layers-over" aria-hidden="true">
          <i class="layers-key" style={{ left: `${x * 100}%` }} />
          {versions.map(({ lsn, kind, y }) => (
            <i
              key={lsn}
              class={`layers-version is-${kind}`}
              style={{ left: `${x * 100}%`, top: `${y * 100}%` }}
            />
          ))}
        </div>
      )}
    </div>
  );
}

/** Whether a version lies in a layer, so that it was read from there. */
function holds({ left, right, top, bottom }: Box, x: number, y: number): boolean {
  return x >= left && x < right + 1e-9 && y >= top - 1e-9 && y < bottom;
}

function About({ box: { layer, part }, names }: {
  readonly box: Box;
  readonly names: ReadonlyMap<string, string>;
}) {
  return (
    <div class="layer-about" aria-live="polite">
      <Facts>
        <Fact name="Layer">
          {layer.kind} of {part.branch ?? part.timeline_id}, {layer.level === 0
            ? "as it was written"
            : `merged ${layer.level} ${layer.level === 1 ? "time" : "times"}`}
        </Fact>
        <Fact name="LSNs">
          <span class="mono">{layer.start_lsn} to {layer.end_lsn}</span>
        </Fact>
        <Fact name="Keys">
          {layer.first_key === null || layer.last_key === null
            ? "none: only where records begin"
            : `${describeKey(layer.first_key, names)} to ${describeKey(layer.last_key, names)}`}
        </Fact>
        <Fact name="Size">{formatBytes(layer.size_bytes)}</Fact>
        <Fact name="Read lately">
          {layer.cached_bytes === 0
            ? "nothing of it"
            : `${formatBytes(layer.cached_bytes)}, unpacked, which the page server still has in memory`}
        </Fact>
        <Fact name="Kept for">{KEPT_FOR[layer.needed_by ?? "nobody"]}</Fact>
      </Facts>
    </div>
  );
}

const KEPT_FOR = {
  horizon: "the newest WAL, as much as the tenant keeps (gc_horizon)",
  pitr: "going back in time, as long as the tenant keeps (pitr_interval)",
  branches: "branches that leave above where it begins",
  leases: "somebody who reads the past now",
  nobody: "nobody: the next garbage collection leaves what is newest in it",
};

function Legend() {
  return (
    <p class="legend">
      <span>
        <i class="swatch is-delta" /> delta: changes
      </span>
      <span>
        <i class="swatch is-image" /> image: whole pages
      </span>
      <span>
        <i class="swatch is-free" /> older than the history that is kept
      </span>
      <span>
        <i class="swatch is-heat" /> how much was read lately
      </span>
      <span>
        <i class="swatch is-read" /> read for the page below
      </span>
    </p>
  );
}

/** By name where Postgres says what a table's file is; that wakes it. */
const FILE = (table: string) =>
  `SELECT pg_relation_filepath(c.oid), c.oid::regclass::text FROM pg_class c WHERE c.oid = '${
    table.replaceAll("'", "''")
  }'::regclass`;
const NAMES = `SELECT coalesce(nullif(c.reltablespace, 0), d.dattablespace)::text || '/' ||
    CASE WHEN c.relisshared THEN 0 ELSE d.oid END::text || '/' || pg_relation_filenode(c.oid), c.oid::regclass::text
  FROM pg_class c, pg_database d WHERE d.datname = current_database() AND pg_relation_filenode(c.oid) IS NOT NULL`;

function ReadOfPage({ tenant, id, parts, read, onRead, onNames }: Props & {
  readonly parts: readonly Part[];
  readonly read: Read | undefined;
  readonly onRead: (read: Read) => void;
  readonly onNames: (names: ReadonlyMap<string, string>) => void;
}) {
  const [table, setTable] = useState("pg_class");
  const [block, setBlock] = useState("0");
  const doing = useAction();
  const look = () =>
    doing.run(async () => {
      let file = table.trim();
      if (!/^(base|global|pg_tblspc)\//.test(file)) {
        const { uri } = await call("computeUri", { tenant, branch: id }, { query: {} });
        const [path, names] = [
          await sql(uri, FILE(file)),
          await sql(uri, NAMES),
        ];
        onNames(new Map(names.rows.map(([key, name]) => [key!, name!] as const)));
        file = path.rows[0]?.[0] ?? file;
      }
      onRead(await call("branchPage", { tenant, branch: id }, { query: { file, block: block.trim() } }));
    });
  return (
    <Card title="What a read goes through">
      <form
        class="page-form"
        onSubmit={(event) => {
          event.preventDefault();
          void look();
        }}
      >
        <Field label="Table, index or file" value={table} onInput={setTable} isMono isRequired />
        <Field label="Block" value={block} onInput={setBlock} isMono isRequired />
        <Button type="submit" isBusy={doing.isBusy}>Show</Button>
      </form>
      <Problem error={doing.error} />
      {read !== undefined && (
        <div class="stack-wide">
          <p>
            {read.versions.length === 0
              ? "Nothing was ever stored for this page: it is read as zeros."
              : `${read.versions.length} ${read.versions.length === 1 ? "version" : "versions"}, ${
                formatBytes(read.versions.reduce((sum, { bytes }) => sum + bytes, 0))
              }: ${read.versions.at(-1)!.kind === "image" ? "an image" : "a record that builds the page"}${
                read.versions.length === 1 ? "" : ", and the records after it"
              }.`}
          </p>
          {read.versions.length > 0 && (
            <Table
              label="Versions that are read, newest first"
              isInCard
              head={
                <>
                  <th scope="col">LSN</th>
                  <th scope="col">What</th>
                  <th scope="col" class="is-number">Size</th>
                  <th scope="col">Of</th>
                </>
              }
            >
              {read.versions.slice(0, 200).map(({ lsn, kind, bytes }) => (
                <tr key={lsn}>
                  <td class="mono">{lsn}</td>
                  <td>{kind === "image" ? "the whole page" : "a WAL record"}</td>
                  <td class="is-number">{formatBytes(bytes)}</td>
                  <td>{timelineOf(parts, lsn)}</td>
                </tr>
              ))}
            </Table>
          )}
        </div>
      )}
    </Card>
  );
}

/** The branch whose timeline has a version: each has what is above its start. */
function timelineOf(parts: readonly Part[], lsn: string): string {
  const part = parts.find(({ start_lsn }) => lsnToNumber(lsn) > lsnToNumber(start_lsn)) ?? parts.at(-1);
  return part?.branch ?? part?.timeline_id.slice(0, 8) ?? "";
}
