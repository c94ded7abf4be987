/** The tree of branches on a time line: to look at, to move in, and to choose a moment from. */
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { formatSpan, formatTime } from "../format.ts";
import { to } from "../router.ts";
import { StateDot } from "../ui/state_dot.tsx";
import { AXIS_HEIGHT, draw, LANE_HEIGHT, type Palette, pointAt, readPalette, type Scene } from "./draw.ts";
import type { Lane } from "./layout.ts";
import { pan, timeAt, type View, xOf, zoom } from "./scale.ts";
import { useLsn } from "./use_lsn.ts";
import { useWal } from "./use_wal.ts";
import { WalChart } from "./wal_chart.tsx";

/** A branch, and a moment of its history; its end when there is none. */
export interface Choice {
  readonly id: string;
  readonly at: number | undefined;
}

interface Props {
  readonly tenant: string;
  readonly lanes: readonly Lane[];
  readonly chosen: Choice | undefined;
  readonly onChoose: (choice: Choice) => void;
}

/** Where the pointer went down, and what was to be seen then. */
interface Drag {
  readonly x: number;
  readonly y: number;
  readonly view: View;
  readonly scrolled: number;
  moved: boolean;
}

const DAY = 86_400_000;
const PRESETS = [["1 h", DAY / 24], ["1 d", DAY], ["1 w", 7 * DAY], ["1 mo", 30 * DAY], [
  "1 y",
  365 * DAY,
]] as const;
/** How far the pointer may move in a click. */
const CLICK_PX = 4;
const AHEAD = 0.06;

/** The view that shows `span` until now, with some room after that. */
function until(now: number, span: number): View {
  return { from: now - span * (1 - AHEAD), to: now + span * AHEAD };
}

/** All of it. */
function whole(lanes: readonly Lane[], now: number): View {
  const first = lanes.reduce((least, { begin }) => Math.min(least, begin), now - 60_000);
  return until(now, (now - first) * 1.12);
}

export function TimeLine({ tenant, lanes, chosen, onChoose }: Props) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const scroller = useRef<HTMLDivElement>(null);
  const [size, setSize] = useState({ width: 0, height: 0 });
  const [scrolled, setScrolled] = useState(0);
  const [now, setNow] = useState(Date.now());
  const [view, setView] = useState<View>();
  const [cursor, setCursor] = useState<{ lane: number; at: number }>();
  const [theme, setTheme] = useState(0);
  const palette = useRef<Palette | undefined>(undefined);

  const shown = view ?? whole(lanes, now);
  const scene: Scene = {
    lanes,
    view: shown,
    ...size,
    scrolled,
    now,
    cursor,
    chosen: chosen === undefined ? undefined : { id: chosen.id, at: chosen.at ?? now },
  };
  const latest = useRef(scene);
  latest.current = scene;

  useEffect(() => {
    const element = canvas.current!;
    const observer = new ResizeObserver(() => {
      setSize({ width: element.clientWidth, height: element.clientHeight });
    });
    observer.observe(element);
    const timer = setInterval(() => setNow(Date.now()), 1_000);
    const dark = matchMedia("(prefers-color-scheme: dark)");
    const restyle = () => {
      palette.current = undefined;
      setTheme((count) => count + 1);
    };
    dark.addEventListener("change", restyle);
    const themes = new MutationObserver(restyle);
    themes.observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
    const wheel = (event: WheelEvent) => {
      event.preventDefault();
      const { view, width } = latest.current;
      const unit = event.deltaMode === 1 ? 16 : 1;
      if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
        const px = (event.deltaX || event.deltaY) * unit;
        setView(pan(view, px / width * (view.to - view.from)));
        return;
      }
      const around = timeAt(view, width, event.offsetX);
      setView(zoom(view, around, Math.exp(Math.max(-200, Math.min(200, event.deltaY * unit)) / 400)));
    };
    element.addEventListener("wheel", wheel, { passive: false });
    return () => {
      observer.disconnect();
      clearInterval(timer);
      dark.removeEventListener("change", restyle);
      themes.disconnect();
      element.removeEventListener("wheel", wheel);
    };
  }, []);

  useLayoutEffect(() => {
    const element = canvas.current!;
    const { width, height } = size;
    if (width === 0) return;
    const ratio = devicePixelRatio;
    const wanted = [Math.round(width * ratio), Math.round(height * ratio)] as const;
    if (element.width !== wanted[0]) element.width = wanted[0];
    if (element.height !== wanted[1]) element.height = wanted[1];
    const context = element.getContext("2d")!;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    palette.current ??= readPalette(element);
    draw(context, scene, palette.current);
  }, [lanes, shown.from, shown.to, size, scrolled, now, cursor, chosen, theme]);

  const drag = useRef<Drag | undefined>(undefined);
  const onPointerDown = (event: PointerEvent) => {
    if (event.button !== 0) return;
    canvas.current!.setPointerCapture(event.pointerId);
    drag.current = {
      x: event.clientX,
      y: event.clientY,
      view: shown,
      scrolled: scroller.current!.scrollTop,
      moved: false,
    };
  };
  const onPointerMove = (event: PointerEvent) => {
    const held = drag.current;
    if (held === undefined) {
      setCursor(pointAt(scene, event.offsetX, event.offsetY));
      return;
    }
    const [dx, dy] = [event.clientX - held.x, event.clientY - held.y];
    if (!held.moved && Math.hypot(dx, dy) < CLICK_PX) return;
    held.moved = true;
    setCursor(undefined);
    setView(pan(held.view, -dx / size.width * (held.view.to - held.view.from)));
    scroller.current!.scrollTop = held.scrolled - dy;
  };
  const onPointerUp = (event: PointerEvent) => {
    const held = drag.current;
    drag.current = undefined;
    if (held === undefined || held.moved) return;
    const point = pointAt(scene, event.offsetX, event.offsetY);
    if (point !== undefined) choose(point);
  };
  const choose = ({ lane, at }: { lane: number; at: number }) => {
    const { branch } = lanes[lane]!;
    onChoose({ id: branch.id, at: at >= now ? undefined : at });
  };

  const onKeyDown = (event: KeyboardEvent) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const span = shown.to - shown.from;
    const point = cursor ?? { lane: 0, at: Math.min(now, shown.to) };
    const move = (lane: number, at: number) => {
      const next = { lane: Math.min(Math.max(lane, 0), lanes.length - 1), at: Math.min(at, now) };
      setCursor(next);
      if (next.at < shown.from || next.at > shown.to) {
        setView(pan(shown, next.at - (shown.from + shown.to) / 2));
      }
      const element = scroller.current!;
      const top = next.lane * LANE_HEIGHT;
      if (top < element.scrollTop) element.scrollTop = top;
      const bottom = top + LANE_HEIGHT - element.clientHeight;
      if (bottom > element.scrollTop) element.scrollTop = bottom;
    };
    const step = span / (event.shiftKey ? 10 : 60);
    const keys: Record<string, () => void> = {
      ArrowLeft: () => move(point.lane, point.at - step),
      ArrowRight: () => move(point.lane, point.at + step),
      ArrowUp: () => move(point.lane - 1, point.at),
      ArrowDown: () => move(point.lane + 1, point.at),
      "+": () => setView(zoom(shown, point.at, 0.7)),
      "=": () => setView(zoom(shown, point.at, 0.7)),
      "-": () => setView(zoom(shown, point.at, 1 / 0.7)),
      Home: () => setView(undefined),
      End: () => setView(until(now, span)),
      Enter: () => choose(point),
      " ": () => choose(point),
      Escape: () => setCursor(undefined),
    };
    const act = keys[event.key];
    if (act === undefined || lanes.length === 0) return;
    event.preventDefault();
    act();
  };

  const hovered = cursor === undefined ? undefined : lanes[cursor.lane];
  const lsn = useLsn(tenant, hovered?.branch, cursor === undefined ? undefined : cursor.at, now);
  const wal = useWal(tenant, hovered?.branch.id, shown);
  const first = Math.max(0, Math.floor(scrolled / LANE_HEIGHT) - 4);
  const last = Math.min(lanes.length, Math.ceil((scrolled + size.height) / LANE_HEIGHT) + 4);
  const labels = useMemo(
    () =>
      lanes.slice(first, last).map(({ branch, depth }, i) => (
        <li key={branch.id} class="tl-label" style={{ top: `${(first + i) * LANE_HEIGHT}px` }}>
          <a
            href={to.branch(tenant, branch.id)}
            title={branch.name}
            style={{ paddingLeft: `calc(12px + ${Math.min(depth, 6)} * var(--tl-indent))` }}
          >
            <StateDot state={branch.compute.state} />
            <span class="tl-name">{branch.name}</span>
          </a>
        </li>
      )),
    [lanes, first, last, tenant],
  );
  // As high as the lanes need, and as the window is: the style sheet has the bounds.
  const wanted = AXIS_HEIGHT + lanes.length * LANE_HEIGHT + 12;
  const isScrolling = wanted > size.height + 1;
  const about = hovered === undefined || cursor === undefined
    ? ""
    : `${hovered.branch.name}, ${formatTime(cursor.at)}, ${lsn.text}`;

  return (
    <div class="tl-frame">
      <div class="tl-tools" role="toolbar" aria-label="Time shown">
        {PRESETS.map(([name, span]) => (
          <button
            key={name}
            type="button"
            class="chip"
            onClick={() => setView(until(Date.now(), span))}
          >
            {name}
          </button>
        ))}
        <button type="button" class="chip" onClick={() => setView(undefined)}>All</button>
        <span class="tl-gap" />
        <button
          type="button"
          class="chip"
          aria-label="Zoom out"
          onClick={() => setView(zoom(shown, (shown.from + shown.to) / 2, 2))}
        >
          −
        </button>
        <span class="tl-span">{formatSpan(shown.to - shown.from)}</span>
        <button
          type="button"
          class="chip"
          aria-label="Zoom in"
          onClick={() => setView(zoom(shown, (shown.from + shown.to) / 2, 0.5))}
        >
          +
        </button>
      </div>
      <div class={`tl ${isScrolling ? "is-scrolling" : ""}`} style={{ height: `${wanted}px` }}>
        <div class="tl-corner">Branch</div>
        <div
          class="tl-scroll"
          ref={scroller}
          tabIndex={-1}
          onScroll={(event) => setScrolled(event.currentTarget.scrollTop)}
        >
          <ul style={{ height: `${lanes.length * LANE_HEIGHT}px` }}>{labels}</ul>
        </div>
        <canvas
          ref={canvas}
          class="tl-canvas"
          tabIndex={0}
          role="application"
          aria-label="Time line of the branches. Left and right move in time, up and down between branches, plus and minus zoom, Enter chooses the moment."
          onPointerDown={onPointerDown}
          onPointerMove={onPointerMove}
          onPointerUp={onPointerUp}
          onPointerLeave={() => drag.current === undefined && setCursor(undefined)}
          onKeyDown={onKeyDown}
        />
        {hovered !== undefined && cursor !== undefined && (
          <div
            class="tl-tip"
            aria-hidden="true"
            style={tipPlace(xOf(shown, size.width, cursor.at), cursor.lane * LANE_HEIGHT - scrolled, size)}
          >
            <strong>{hovered.branch.name}</strong>
            <span>{cursor.at >= now ? "now" : formatTime(cursor.at, shown.to - shown.from < 60_000)}</span>
            <span class={`mono ${lsn.isProblem ? "is-problem" : ""}`}>{lsn.text}</span>
            {wal !== undefined && <WalChart bars={wal} at={cursor.at} />}
          </div>
        )}
      </div>
      <p class="visually-hidden" aria-live="polite">{about}</p>
    </div>
  );
}

const TIP_WIDTH = 230;
const TIP_HEIGHT = 150;

/** Beside the pointer, on the side that has room. */
function tipPlace(x: number, y: number, { width, height }: { width: number; height: number }) {
  const isRight = x + TIP_WIDTH + 24 > width;
  const isLow = y + LANE_HEIGHT + 40 + TIP_HEIGHT > height;
  return {
    right: isRight ? `${Math.max(width - x + 12, 8)}px` : "auto",
    left: isRight ? "auto" : `calc(var(--tl-labels) + ${x + 12}px)`,
    top: `${isLow ? Math.max(y + 34 - TIP_HEIGHT, 4) : y + LANE_HEIGHT + 30}px`,
  };
}
