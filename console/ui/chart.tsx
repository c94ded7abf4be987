/** A line over time, as small as a stamp: drawn by uPlot, in the colours of the theme. */
import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import { formatTime } from "../format.ts";

export interface ChartLine {
  readonly name: string;
  /** Of tokens.css. */
  readonly color: string;
  /** Null where nothing is known. One for each time. */
  readonly values: readonly (number | null)[];
}

interface Props {
  readonly title: string;
  /** In milliseconds since 1970, ascending. */
  readonly times: readonly number[];
  readonly lines: readonly ChartLine[];
  readonly format: (value: number) => string;
  /** The largest value that there can be; undefined for what there is. */
  readonly max?: number;
}

const HEIGHT = 72;

/** What the title says is the newest value, so nobody needs to see the line. */
export function Chart({ title, times, lines, format, max }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | undefined>(undefined);
  const read = useRef<HTMLParagraphElement>(null);
  const now = useRef({ lines, times, format });
  now.current = { lines, times, format };
  const names = lines.map(({ name, color }) => `${name} ${color}`).join();
  const data = [
    times.map((ms) => ms / 1_000),
    ...lines.map(({ values }) => [...values]),
  ] as uPlot.AlignedData;
  const held = useRef(data);
  held.current = data;
  useEffect(() => {
    const element = box.current!;
    const make = () => {
      plot.current?.destroy();
      plot.current = new uPlot(optionsOf(element, now.current.lines, max, say), held.current, element);
    };
    const say = (index: number | null | undefined) => {
      const { lines, times, format } = now.current;
      const at = index === null || index === undefined ? undefined : times[index];
      read.current!.textContent = at === undefined
        ? ""
        : `${formatTime(at).slice(11)}  ${
          lines.map(({ name, values }) =>
            `${lines.length > 1 ? `${name} ` : ""}${values[index!] === null ? "–" : format(values[index!]!)}`
          ).join(", ")
        }`;
    };
    make();
    const resized = new ResizeObserver(() =>
      plot.current?.setSize({ width: element.clientWidth, height: HEIGHT })
    );
    resized.observe(element);
    const dark = matchMedia("(prefers-color-scheme: dark)");
    dark.addEventListener("change", make);
    const themed = new MutationObserver(make);
    themed.observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
    return () => {
      resized.disconnect();
      dark.removeEventListener("change", make);
      themed.disconnect();
      plot.current?.destroy();
      plot.current = undefined;
    };
  }, [names, max]);
  useEffect(() => plot.current?.setData(data), [times, lines]);
  const newest = lines.map(({ name, values }) => {
    const value = values.at(-1) ?? null;
    return { name, text: value === null ? "–" : format(value) };
  });
  return (
    <div class="chart">
      <h3>{title}</h3>
      <p class="chart-now">
        {newest.map(({ name, text }, i) => (
          <span key={name}>
            {text}
            {lines.length > 1 && (
              <small>
                <i style={{ background: `var(--${lines[i]!.color})` }} /> {name}
              </small>
            )}
          </span>
        ))}
      </p>
      <div class="chart-box" ref={box} aria-hidden="true" />
      <p class="chart-read" ref={read} aria-hidden="true" />
    </div>
  );
}

function optionsOf(
  element: HTMLElement,
  lines: readonly ChartLine[],
  max: number | undefined,
  say: (index: number | null | undefined) => void,
): uPlot.Options {
  // A canvas knows no light-dark(). As the colour of an element it is one of the two.
  const color = (name: string) => {
    element.style.color = `var(--${name})`;
    return getComputedStyle(element).color;
  };
  const grid = { show: true, stroke: color("border"), width: 1 };
  return {
    width: Math.max(element.clientWidth, 40),
    height: HEIGHT,
    padding: [6, 0, 2, 0],
    legend: { show: false },
    cursor: { y: false, drag: { x: false, y: false }, points: { size: 6 } },
    scales: {
      x: { time: true },
      y: { range: (_plot, _least, most) => [0, max ?? Math.max(most ?? 0, 1) * 1.1] },
    },
    axes: [{ show: false }, { show: true, size: 0, grid, ticks: { show: false }, values: () => [] }],
    hooks: { setCursor: [({ cursor }) => say(cursor.idx)] },
    series: [
      {},
      ...lines.map(({ name, color: line }, i) => ({
        label: name,
        stroke: color(line),
        width: 1.75,
        ...(i === 0 ? { fill: color(line).replace("rgb(", "rgba(").replace(")", ", 0.12)") } : {}),
        points: { show: false },
        spanGaps: false,
      })),
    ],
  };
}
