import { ZenithError } from "../../common/errors.ts";
import { isId, parseTimelineId, type TimelineId } from "../../common/id.ts";
import { formatTimestamp, msOfTimestamp, parseTimestamp, timestampOfMs } from "../../common/timestamp.ts";

/** What a branch's file says. */
export interface BranchContent {
  readonly timelineId: TimelineId;
  /** When the branch is to be removed, in milliseconds since 1970; null: never. */
  readonly expiresMs: number | null;
}

// A branch file is text, as it was when branches were files with a timeline id in them; docs/branches.md shows one.
const FIRST_LINE = "zenith branch 1";
const TIMELINE = "timeline ";
const EXPIRES = "expires ";

export function encodeBranchFile(branch: BranchContent): Uint8Array {
  const lines = [FIRST_LINE, TIMELINE + branch.timelineId];
  if (branch.expiresMs !== null) lines.push(EXPIRES + formatTimestamp(timestampOfMs(branch.expiresMs)));
  return new TextEncoder().encode(lines.join("\n") + "\n");
}

/** @throws {ZenithError} `corrupt_data`, naming `path` */
export function decodeBranchFile(bytes: Uint8Array, path: string): BranchContent {
  const lines = new TextDecoder().decode(bytes).split("\n");
  const [first = "", timeline = "", third = ""] = lines;
  if (first !== FIRST_LINE) throw corrupt(path, `begins with "${first}"`, `"${FIRST_LINE}"`);
  const id = timeline.startsWith(TIMELINE) ? timeline.slice(TIMELINE.length) : "";
  if (!isId(id)) throw corrupt(path, `holds "${timeline}"`, `"${TIMELINE}" and an id`);
  const timelineId = parseTimelineId(id);
  if (lines.length === 3 && third === "") return { timelineId, expiresMs: null };
  if (lines.length !== 4 || !third.startsWith(EXPIRES) || lines[3] !== "") {
    throw corrupt(path, `goes on with "${lines.slice(2).join("\n")}"`, `"${EXPIRES}" and a time, or nothing`);
  }
  try {
    return { timelineId, expiresMs: msOfTimestamp(parseTimestamp(third.slice(EXPIRES.length), "none")) };
  } catch (error) {
    throw corrupt(path, `holds "${third}"`, `"${EXPIRES}" and a time`, error);
  }
}

function corrupt(path: string, found: string, expected: string, cause?: unknown): ZenithError {
  return new ZenithError(
    "corrupt_data",
    `branch file ${path} ${found.slice(0, 200)} where ${expected} belongs`,
    { cause },
  );
}
