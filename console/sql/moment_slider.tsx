/** A slider through the history of a branch, to choose a moment to read. */
import { useEffect, useState } from "preact/hooks";
import { call } from "../api.ts";
import type { Branch } from "../contract.ts";
import { formatSpan, formatTime, toRfc3339 } from "../format.ts";
import { usePoll } from "../poll.ts";

const HISTORY_MS = 60_000;
const STEPS = 200;
/** The least that a step goes back. */
const STEP_MS = 1_000;
const JUMPS = [["5 min ago", 300_000], ["1 h ago", 3_600_000], ["Yesterday", 86_400_000]] as const;

interface Props {
  readonly tenant: string;
  readonly branch: Branch;
  /** RFC 3339, an LSN, or empty for now. */
  readonly at: string;
  readonly onChange: (at: string) => void;
}

export function MomentSlider({ tenant, branch, at, onChange }: Props) {
  const polled = usePoll(
    () => call("branchHistory", { tenant, branch: branch.id }),
    HISTORY_MS,
    `${tenant} ${branch.id}`,
  );
  const [dragged, setDragged] = useState<number>();
  useEffect(() => setDragged(undefined), [at]);
  const first = polled.data === undefined ? undefined : oldest(polled.data.items, branch);
  const now = Date.now();
  if (first === undefined || now - first < 2_000) {
    return <p class="hint">{polled.data === undefined ? "" : "There is no past to go back to yet."}</p>;
  }
  const span = now - first;
  const chosen = at === "" ? now : Date.parse(at);
  // Most of the way is the latest part: who goes back, goes back a little.
  const timeAt = (step: number) => {
    const back = STEPS - step;
    return now - Math.min(span, Math.max(back * STEP_MS, span * (back / STEPS) ** 3));
  };
  const stepOf = (ms: number) => {
    const age = Math.min(Math.max(now - ms, 0), span);
    return STEPS - Math.round(Math.min(age / STEP_MS, STEPS * Math.cbrt(age / span)));
  };
  const step = dragged ?? (Number.isNaN(chosen) ? STEPS : stepOf(chosen));
  const shown = step >= STEPS ? "now" : formatTime(dragged === undefined ? chosen : timeAt(step));
  const choose = (ms: number) => onChange(ms >= Date.now() - 500 ? "" : toRfc3339(ms));
  return (
    <div class="slider">
      <input
        type="range"
        min={0}
        max={STEPS}
        value={step}
        aria-label="Moment of the branch"
        aria-valuetext={shown}
        onInput={(event) => setDragged(Number(event.currentTarget.value))}
        onChange={(event) => {
          const wanted = Number(event.currentTarget.value);
          if (wanted >= STEPS) onChange("");
          else choose(timeAt(wanted));
        }}
      />
      <div class="slider-ends">
        <span>{formatSpan(span)} ago</span>
        <span class="slider-shown" aria-hidden="true">
          {dragged === undefined ? "" : shown}
        </span>
        <span>now</span>
      </div>
      <div class="tabs is-inline" role="group" aria-label="Go back">
        <button type="button" class="chip" aria-pressed={at === ""} onClick={() => onChange("")}>Now</button>
        {JUMPS.map(([text, ms]) => (
          <button
            key={text}
            type="button"
            class="chip"
            disabled={ms > span}
            title={ms > span ? "before its history" : undefined}
            onClick={() => choose(Date.now() - ms)}
          >
            {text}
          </button>
        ))}
      </div>
    </div>
  );
}

interface Part {
  readonly kept_from: string | null;
}

/**
 * From when on a branch can be read, by way of its ancestors too. Where nobody has committed yet,
 * that is when the branch became known.
 */
function oldest(parts: readonly Part[], branch: Branch): number {
  return Math.min(...parts.map(({ kept_from }) => Date.parse(kept_from ?? branch.created_at)));
}
