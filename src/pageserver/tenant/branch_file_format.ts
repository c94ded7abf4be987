/** The format of the file that names a branch. */
import { ZenithError } from "../../common/errors.ts";
import { isId, parseTimelineId, type TimelineId } from "../../common/id.ts";
import { decodeSmallFile, encodeSmallFile, type SmallFormat } from "../../common/small_file.ts";
import { formatTimestamp, msOfTimestamp, parseTimestamp, timestampOfMs } from "../../common/timestamp.ts";

/** The contents of a branch's file. */
export interface BranchContent {
  readonly timelineId: TimelineId;
  /** When the branch expires, in milliseconds since 1970. Null when it never does. */
  readonly expiresMs: number | null;
  /** A protected branch must not be deleted or restored until its protection is removed. */
  readonly isProtected: boolean;
  /** Whether branches of it have to be branches of a mask. */
  readonly requiresMask: boolean;
}

const TIMELINE = "timeline ";
const EXPIRES = "expires ";
const PROTECTED = "protected";
const REQUIRES_MASK = "requires mask";

/** The format of a branch's file. docs/branches.md shows an example. */
export const BRANCH_FORMAT: SmallFormat<BranchContent> = {
  title: "zenith branch",
  encode: ({ timelineId, expiresMs, isProtected, requiresMask }) => [
    TIMELINE + timelineId,
    ...(expiresMs === null ? [] : [EXPIRES + formatTimestamp(timestampOfMs(expiresMs))]),
    ...(isProtected ? [PROTECTED] : []),
    ...(requiresMask ? [REQUIRES_MASK] : []),
  ],
  decode: ([timeline = "", ...others]) => {
    const id = valueAfter(TIMELINE, timeline);
    if (!isId(id)) throw malformed(`"${timeline}" names no timeline`);
    const takeLast = (line: string): boolean => {
      const isThere = others.at(-1) === line;
      if (isThere) others.pop();
      return isThere;
    };
    const requiresMask = takeLast(REQUIRES_MASK);
    const isProtected = takeLast(PROTECTED);
    const [expires, ...surplus] = others;
    if (surplus.length > 0) throw malformed(`"${surplus[0]}" is too much`);
    return {
      timelineId: parseTimelineId(id),
      expiresMs: expires === undefined
        ? null
        : msOfTimestamp(parseTimestamp(valueAfter(EXPIRES, expires), "none")),
      isProtected,
      requiresMask,
    };
  },
};

export function encodeBranchFile(branch: BranchContent): Uint8Array {
  return encodeSmallFile(BRANCH_FORMAT, branch);
}

/** @throws {ZenithError} `corrupt_data`, naming `path` */
export function decodeBranchFile(bytes: Uint8Array, path: string): BranchContent {
  return decodeSmallFile(BRANCH_FORMAT, bytes, path);
}

function valueAfter(prefix: string, line: string): string {
  if (!line.startsWith(prefix)) throw malformed(`"${line}" where "${prefix}…" belongs`);
  return line.slice(prefix.length);
}

function malformed(what: string): ZenithError {
  return new ZenithError("corrupt_data", what.slice(0, 200));
}
