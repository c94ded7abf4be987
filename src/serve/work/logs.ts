/** The logs of a branch's Postgres and of its supervisor, from a place in the file on. */
import { ZenithError } from "../../common/errors.ts";
import { ownName } from "../../common/compute_name.ts";
import type { TenantId } from "../../common/id.ts";
import { type FilePosition, lastLines, readSince } from "../../control/log_file.ts";
import type { Branch } from "./branches.ts";
import { branchNameOf } from "./computes.ts";
import type { WorkContext } from "./context.ts";

export type LogSource = "postgres" | "supervisor";

/** What one answer has at most. */
const ANSWER_MAX_BYTES = 512 << 10;

export interface LogPart {
  /** Complete lines, in the order of the file. */
  readonly lines: readonly string[];
  /** Where the next part begins. */
  readonly cursor: string;
}

/**
 * @param cursor of the part before; undefined for the last `count` lines
 * @throws {ZenithError} `invalid_argument` when the cursor is none
 */
export function readLog(
  context: WorkContext,
  tenant: TenantId,
  branch: Branch,
  { source, cursor, count }: { source: LogSource; cursor: string | undefined; count: number },
): LogPart {
  const paths = context.environment().paths.compute(tenant, ownName(branchNameOf(branch)));
  const path = source === "postgres" ? paths.postgresLog : paths.log;
  const from = cursor === undefined ? undefined : parseCursor(cursor);
  const found = from === undefined ? lastLines(path, count) : readSince(path, from, ANSWER_MAX_BYTES);
  // One that has never run has no log: what it will write is all new.
  const { text, end } = found ?? { text: "", end: from ?? { inode: 0, offset: 0 } };
  const lines = text.split("\n");
  if (lines.at(-1) === "") lines.pop();
  return { lines, cursor: formatCursor(end) };
}

function formatCursor({ inode, offset }: FilePosition): string {
  return `${inode}.${offset}`;
}

function parseCursor(text: string): FilePosition {
  const match = /^(\d{1,15})\.(\d{1,15})$/.exec(text);
  if (match === null) throw new ZenithError("invalid_argument", "after: this is no cursor of a log");
  return { inode: Number(match[1]), offset: Number(match[2]) };
}
