/** The logs of a branch's Postgres and its supervisor, which go on while one looks. */
import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { call } from "../api.ts";
import type { Branch } from "../contract.ts";
import { formatLogLine } from "../log_line.ts";
import { usePoll } from "../poll.ts";
import { Card, Choice, Problem } from "../ui/parts.tsx";

const POLL_MS = 2_000;
const FIRST = 200;
const KEPT = 2_000;
const SOURCES = [["postgres", "Postgres"], ["supervisor", "Supervisor"]] as const;

type Source = (typeof SOURCES)[number][0];

export function BranchLog({ tenant, branch }: { readonly tenant: string; readonly branch: Branch }) {
  const [source, setSource] = useState<Source>("postgres");
  return (
    <Card
      title="Logs"
      aside={<Choice label="Log of" value={source} options={SOURCES} onChange={setSource} isInline />}
    >
      <Lines key={source} tenant={tenant} branch={branch} source={source} />
    </Card>
  );
}

interface LinesProps {
  readonly tenant: string;
  readonly branch: Branch;
  readonly source: Source;
}

function Lines({ tenant, branch, source }: LinesProps) {
  const kept = useRef<{ lines: readonly string[]; cursor: string | undefined }>({
    lines: [],
    cursor: undefined,
  });
  const asking = useRef<Promise<unknown>>(Promise.resolve());
  const polled = usePoll(
    async () => {
      // One after the other, so that no line comes twice.
      const turn = asking.current.catch(() => {}).then(async () => {
        const { lines, cursor } = kept.current;
        const query = { source, limit: String(FIRST), ...(cursor === undefined ? {} : { after: cursor }) };
        const more = await call("computeLog", { tenant, branch: branch.id }, { query });
        const all = more.lines.length === 0 && cursor !== undefined
          ? lines
          : [...lines, ...more.lines].slice(-KEPT);
        kept.current = { lines: all, cursor: more.cursor };
      });
      asking.current = turn;
      await turn;
      return kept.current.lines;
    },
    POLL_MS,
    `${branch.id} ${source}`,
  );
  const pane = useRef<HTMLPreElement>(null);
  const isAtEnd = useRef(true);
  const lines = polled.data;
  // It follows, unless somebody has scrolled back to read.
  useLayoutEffect(() => {
    const element = pane.current;
    if (element !== null && isAtEnd.current) element.scrollTop = element.scrollHeight;
  }, [lines]);
  if (polled.error !== undefined) return <Problem error={polled.error} />;
  if (lines === undefined) return <p class="hint">Reading the log …</p>;
  if (lines.length === 0) {
    return <p class="empty is-small">Nothing yet: the log begins with the first start of its Postgres.</p>;
  }
  return (
    <pre
      ref={pane}
      class="log"
      tabIndex={0}
      role="log"
      aria-label={`Log of ${source}`}
      onScroll={({ currentTarget: { scrollTop, scrollHeight, clientHeight } }) => {
        isAtEnd.current = scrollTop + clientHeight > scrollHeight - 24;
      }}
    >
      {lines.map((line, i) => {
        const { text, level } = formatLogLine(line);
        return <span key={i} class={level === undefined ? undefined : `is-${level}`}>{`${text}\n`}</span>;
      })}
    </pre>
  );
}
