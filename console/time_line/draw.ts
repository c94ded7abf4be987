/** Draws the time line on a canvas. What is outside of it costs next to nothing. */
import type { Lane } from "./layout.ts";
import { ticks, timeAt, type View, xOf } from "./scale.ts";

export const LANE_HEIGHT = 38;
export const AXIS_HEIGHT = 34;
const TICKS_APART = 84;
const BAND_HEIGHT = 14;
const CORNER = 7;

export interface Scene {
  readonly lanes: readonly Lane[];
  readonly view: View;
  readonly width: number;
  readonly height: number;
  /** How far the lanes are scrolled, in pixels. */
  readonly scrolled: number;
  readonly now: number;
  /** Where the pointer or the keyboard is. */
  readonly cursor: { readonly lane: number; readonly at: number } | undefined;
  /** What was clicked. */
  readonly chosen: { readonly id: string; readonly at: number } | undefined;
}

/** The colours of the theme, read from the style sheet. */
export interface Palette {
  readonly text: string;
  readonly muted: string;
  readonly grid: string;
  readonly surface: string;
  readonly hover: string;
  readonly line: string;
  readonly awake: string;
  readonly band: string;
  readonly bandAwake: string;
  readonly accent: string;
  readonly danger: string;
  readonly font: string;
}

export function readPalette(element: HTMLElement): Palette {
  const style = getComputedStyle(element);
  // A canvas knows no light-dark(). As the colour of an element it is one of the two.
  const of = (name: string) => {
    element.style.color = `var(--${name})`;
    return style.color;
  };
  return {
    text: of("text"),
    muted: of("text-muted"),
    grid: of("border"),
    surface: of("surface"),
    hover: of("surface-hover"),
    line: of("line"),
    awake: of("awake"),
    band: of("band"),
    bandAwake: of("band-awake"),
    accent: of("accent"),
    danger: of("danger"),
    font: style.fontFamily,
  };
}

export function draw(context: CanvasRenderingContext2D, scene: Scene, colors: Palette): void {
  const { width, height } = scene;
  context.clearRect(0, 0, width, height);
  drawGrid(context, scene, colors);
  context.save();
  context.beginPath();
  context.rect(0, AXIS_HEIGHT, width, height - AXIS_HEIGHT);
  context.clip();
  drawLanes(context, scene, colors);
  context.restore();
  drawNow(context, scene, colors);
  drawCursor(context, scene, colors);
}

export function yOf({ scrolled }: Pick<Scene, "scrolled">, lane: number): number {
  return AXIS_HEIGHT + lane * LANE_HEIGHT + LANE_HEIGHT / 2 - scrolled;
}

function drawGrid(context: CanvasRenderingContext2D, scene: Scene, colors: Palette): void {
  const { view, width, height } = scene;
  context.font = `12px ${colors.font}`;
  context.textBaseline = "middle";
  context.textAlign = "center";
  for (const { at, label, isMajor } of ticks(view, width, TICKS_APART)) {
    const x = Math.round(xOf(view, width, at)) + 0.5;
    if (x < -TICKS_APART || x > width + TICKS_APART) continue;
    context.strokeStyle = colors.grid;
    context.lineWidth = isMajor ? 1.5 : 1;
    context.globalAlpha = isMajor ? 1 : 0.6;
    stroke(context, [[x, AXIS_HEIGHT], [x, height]]);
    context.globalAlpha = 1;
    // The word "now" has its place.
    if (Math.abs(x - xOf(view, width, scene.now)) < TICKS_APART / 2) continue;
    context.fillStyle = isMajor ? colors.text : colors.muted;
    context.fillText(label, x, AXIS_HEIGHT / 2);
  }
  context.strokeStyle = colors.grid;
  context.lineWidth = 1;
  stroke(context, [[0, AXIS_HEIGHT - 0.5], [width, AXIS_HEIGHT - 0.5]]);
}

function drawLanes(context: CanvasRenderingContext2D, scene: Scene, colors: Palette): void {
  const { lanes, view, width, height, cursor, chosen } = scene;
  if (cursor !== undefined) {
    context.fillStyle = colors.hover;
    context.fillRect(0, yOf(scene, cursor.lane) - LANE_HEIGHT / 2, width, LANE_HEIGHT);
  }
  const end = xOf(view, width, scene.now);
  const isVisible = (y: number) => y > AXIS_HEIGHT - LANE_HEIGHT && y < height + LANE_HEIGHT;
  // Of hundreds that lead out of sight from one place, one is to be seen.
  const drawn = new Set<string>();
  lanes.forEach((lane, i) => {
    const y = yOf(scene, i);
    const x = xOf(view, width, lane.begin);
    if (lane.parent !== undefined && x >= -CORNER && x <= width) {
      const from = yOf(scene, lane.parent);
      const corner = Math.min(CORNER, Math.max(end - x, 0));
      const place = `${lane.parent} ${Math.round(x)} ${lane.branch.compute.state === "awake"}`;
      if (y > AXIS_HEIGHT && from < height && (isVisible(y) || !drawn.has(place))) {
        if (!isVisible(y)) drawn.add(place);
        drawConnector(context, [x, from, y], corner, isVisible(y), lane, colors);
      }
    }
    if (isVisible(y)) drawLane(context, scene, lane, y, colors);
  });
  if (chosen === undefined) return;
  const lane = lanes.findIndex(({ branch }) => branch.id === chosen.id);
  if (lane < 0) return;
  const x = xOf(view, width, chosen.at);
  context.strokeStyle = colors.accent;
  context.lineWidth = 2;
  circle(context, x, yOf(scene, lane), 6.5, colors.surface);
  context.stroke();
  circle(context, x, yOf(scene, lane), 3, colors.accent);
}

function drawConnector(
  context: CanvasRenderingContext2D,
  [x, from, to]: readonly [x: number, from: number, to: number],
  corner: number,
  isInSight: boolean,
  { branch }: Lane,
  colors: Palette,
): void {
  const isAwake = branch.compute.state === "awake";
  context.strokeStyle = isAwake ? colors.awake : colors.line;
  context.lineWidth = isAwake ? 2.5 : 2;
  context.beginPath();
  context.moveTo(x, from);
  context.lineTo(x, to - corner);
  context.quadraticCurveTo(x, to, x + corner, to);
  // It crosses the lanes in between. Of one that leads out of sight, there may be hundreds.
  context.globalAlpha = (isAwake ? 0.8 : 0.55) * (isInSight ? 1 : 0.25);
  context.stroke();
  context.globalAlpha = 1;
  circle(context, x, from, 3, isAwake ? colors.awake : colors.line);
}

function drawLane(
  context: CanvasRenderingContext2D,
  { view, width, now }: Scene,
  lane: Lane,
  y: number,
  colors: Palette,
): void {
  const { state } = lane.branch.compute;
  const end = xOf(view, width, now);
  const begin = Math.min(xOf(view, width, lane.begin) + (lane.parent === undefined ? 0 : CORNER), end);
  const kept = Math.max(xOf(view, width, lane.kept), begin);
  const isAwake = state === "awake";
  const color = isAwake ? colors.awake : state === "crashed" ? colors.danger : colors.line;
  if (end < 0 || begin > width) return;
  // What can be read.
  const left = Math.max(kept, -BAND_HEIGHT);
  const right = Math.min(end, width + BAND_HEIGHT);
  if (right > left) {
    context.fillStyle = isAwake ? colors.bandAwake : colors.band;
    context.beginPath();
    context.roundRect(left, y - BAND_HEIGHT / 2, right - left, BAND_HEIGHT, BAND_HEIGHT / 2);
    context.fill();
  }
  context.strokeStyle = color;
  if (kept > begin) {
    context.lineWidth = 1.5;
    context.setLineDash([2, 5]);
    stroke(context, [[Math.max(begin, 0), y], [Math.min(kept, width), y]]);
    context.setLineDash([]);
  }
  context.lineWidth = isAwake ? 2.5 : 2;
  stroke(context, [[Math.max(kept, 0), y], [Math.min(end, width), y]]);
  if (lane.lastCommit !== undefined && lane.lastCommit >= lane.begin) {
    const x = xOf(view, width, lane.lastCommit);
    // Not where it would lie on an end of the line.
    if (x >= 0 && x <= width && end - x > 8 && x - begin > 8) stroke(context, [[x, y - 4], [x, y + 4]]);
  }
  if (end > width + 8) return;
  if (isAwake) {
    context.globalAlpha = 0.25;
    circle(context, end, y, 9, color);
    context.globalAlpha = 1;
    circle(context, end, y, 5, color);
  } else {
    circle(context, end, y, 4.5, colors.surface);
    context.lineWidth = 2;
    context.stroke();
  }
}

function drawNow(context: CanvasRenderingContext2D, { view, width, height, now }: Scene, colors: Palette) {
  const x = xOf(view, width, now);
  if (x < 0 || x > width) return;
  context.strokeStyle = colors.muted;
  context.lineWidth = 1;
  context.setLineDash([3, 4]);
  stroke(context, [[x, AXIS_HEIGHT], [x, height]]);
  context.setLineDash([]);
  tag(context, x, width, "now", colors.muted, colors);
}

function drawCursor(
  context: CanvasRenderingContext2D,
  { view, width, height, cursor }: Scene,
  colors: Palette,
): void {
  if (cursor === undefined) return;
  const x = xOf(view, width, cursor.at);
  context.strokeStyle = colors.accent;
  context.lineWidth = 1;
  stroke(context, [[x, AXIS_HEIGHT], [x, height]]);
}

/** A word on the axis. */
function tag(
  context: CanvasRenderingContext2D,
  x: number,
  width: number,
  text: string,
  color: string,
  colors: Palette,
): void {
  context.font = `600 11px ${colors.font}`;
  const room = context.measureText(text).width + 12;
  const left = Math.min(Math.max(x - room / 2, 0), width - room);
  context.fillStyle = color;
  context.beginPath();
  context.roundRect(left, AXIS_HEIGHT - 25, room, 17, 8.5);
  context.fill();
  context.fillStyle = colors.surface;
  context.textAlign = "center";
  context.fillText(text, left + room / 2, AXIS_HEIGHT - 16);
}

function stroke(context: CanvasRenderingContext2D, points: readonly (readonly [number, number])[]): void {
  context.beginPath();
  points.forEach(([x, y], i) => i === 0 ? context.moveTo(x, y) : context.lineTo(x, y));
  context.stroke();
}

function circle(
  context: CanvasRenderingContext2D,
  x: number,
  y: number,
  radius: number,
  color: string,
): void {
  context.fillStyle = color;
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  context.fill();
}

/** Where the pointer is: the lane, if there is one, and the time. */
export function pointAt(scene: Scene, x: number, y: number): { lane: number; at: number } | undefined {
  const lane = Math.floor((y - AXIS_HEIGHT + scene.scrolled) / LANE_HEIGHT);
  if (y < AXIS_HEIGHT || lane < 0 || lane >= scene.lanes.length) return undefined;
  return { lane, at: timeAt(scene.view, scene.width, x) };
}
