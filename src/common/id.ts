/** Ids of tenants and timelines, and names of branches. */
import { randomBytes } from "node:crypto";
import { ZenithError } from "./errors.ts";

/**
 * A tenant's id: 32 lower-case hex characters. A tenant is one customer's branches, separate from
 * all others.
 */
export type TenantId = string & { readonly __brand: "TenantId" };

/**
 * A timeline's id: 32 lower-case hex characters. A timeline is one line of WAL history. A branch is
 * a name for a timeline.
 */
export type TimelineId = string & { readonly __brand: "TimelineId" };

const ID_BYTES = 16;
const ID_PATTERN = /^[0-9a-f]{32}$/;

export function generateTenantId(): TenantId {
  return randomBytes(ID_BYTES).toString("hex") as TenantId;
}

export function generateTimelineId(): TimelineId {
  return randomBytes(ID_BYTES).toString("hex") as TimelineId;
}

/** @throws {ZenithError} `invalid_argument` when `text` is not 32 hex characters */
export function parseTenantId(text: string): TenantId {
  return parseId("tenant", text) as TenantId;
}

/** @throws {ZenithError} `invalid_argument` when `text` is not 32 hex characters */
export function parseTimelineId(text: string): TimelineId {
  return parseId("timeline", text) as TimelineId;
}

/** Whether `text` has the form of an id, in upper or lower case. */
export function isId(text: string): boolean {
  return ID_PATTERN.test(text.toLowerCase());
}

/** Whether a directory's name can be an id. Directories are named in lower case. */
export function isIdFileName(name: string): boolean {
  return ID_PATTERN.test(name);
}

function parseId(what: string, text: string): string {
  const id = text.toLowerCase();
  if (!ID_PATTERN.test(id)) {
    throw new ZenithError("invalid_argument", `"${text}" is not a ${what} id: expected 32 hex characters`);
  }
  return id;
}

/**
 * A name for a timeline within a tenant. It follows git's rules for branch names, so it may contain
 * slashes and letters of any script. Paths use its {@link branchFileName}.
 */
export type BranchName = string & { readonly __brand: "BranchName" };

const BRANCH_NAME_MAX_LENGTH = 128;
/** File systems allow 255 bytes. The rest is for the suffixes that we append. */
const BRANCH_FILE_NAME_MAX_LENGTH = 200;

/**
 * Explains why `text` can't be a branch name; undefined when it can. The rules are git's and a few
 * of our own.
 */
function whyNoBranchName(text: string): string | undefined {
  if (text === "") return "it is empty";
  if (text.length > BRANCH_NAME_MAX_LENGTH) return `it is longer than ${BRANCH_NAME_MAX_LENGTH} characters`;
  if (text.startsWith("-")) return 'it begins with "-"';
  // deno-lint-ignore no-control-regex
  const bad = /[\u0000-\u0020\u007f-\u00a0\u2028\u2029"'`$&;|<>(){}[\]~^:?*\\@%,!]/.exec(text);
  if (bad !== null) return `it has ${describeCharacter(bad[0])}`;
  if (/\p{Surrogate}/u.test(text)) return "it is not valid Unicode";
  if (text.includes("..")) return 'it has ".."';
  const parts = text.split("/");
  if (parts.includes("")) return 'a "/" stands at its beginning, at its end, or beside another';
  if (parts.some((part) => part.startsWith("."))) return 'a "." begins it, or follows a "/"';
  if (text.endsWith(".")) return 'it ends with "."';
  if (parts.some((part) => part.endsWith(".lock") || part.endsWith(".tmp"))) {
    return 'it ends with ".lock" or ".tmp"';
  }
  if (isId(text)) return "it looks like a timeline id";
  if (encodeBranchName(text).length > BRANCH_FILE_NAME_MAX_LENGTH) return "it is too long for a file name";
  return undefined;
}

function describeCharacter(character: string): string {
  const code = character.codePointAt(0)!;
  if (character === " ") return "a blank";
  return code < 0x20 || code >= 0x7f ? "a control character or an odd blank" : `a "${character}"`;
}

/**
 * The only rule that names once had. It allowed `a..b` and `x.lock`; branches with such names keep
 * them.
 */
const FORMER_BRANCH_NAME_PATTERN = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/;

/** Whether {@link parseBranchName} accepts `text`. */
export function isBranchName(text: string): boolean {
  return (FORMER_BRANCH_NAME_PATTERN.test(text) && !isId(text)) || whyNoBranchName(text) === undefined;
}

/** @throws {ZenithError} `invalid_argument` when `text` can't be the name of a branch */
export function parseBranchName(text: string): BranchName {
  if (!isBranchName(text)) assertNewBranchName(text);
  return text as BranchName;
}

/** @throws {ZenithError} `invalid_argument` when `text` can't be the name of a new branch */
export function assertNewBranchName(text: string): void {
  const why = whyNoBranchName(text);
  if (why === undefined) return;
  const shown = text.length > BRANCH_NAME_MAX_LENGTH ? `${text.slice(0, BRANCH_NAME_MAX_LENGTH)}…` : text;
  throw new ZenithError("invalid_argument", `${JSON.stringify(shown)} can't be a branch name: ${why}`, {
    hint: "a branch name is like one of git: main, feature/login-123",
  });
}

/**
 * The name of a branch's file or directory: the branch's name in UTF-8, with every byte except
 * letters, digits, `_`, `-` and `.` written as `%XX`. A name without such bytes is its own file
 * name, as all names once were.
 */
export function branchFileName(name: BranchName): string {
  return encodeBranchName(name);
}

function encodeBranchName(text: string): string {
  const byByte = (character: string): string =>
    Array.from(
      new TextEncoder().encode(character),
      (byte) => `%${byte.toString(16).padStart(2, "0").toUpperCase()}`,
    )
      .join("");
  return text.replace(/[^A-Za-z0-9_.-]/gu, byByte);
}

/**
 * Returns the branch that a file or directory is named after, or null for a name that
 * {@link branchFileName} never returns.
 */
export function branchOfFileName(file: string): BranchName | null {
  let name: string;
  try {
    name = decodeURIComponent(file);
  } catch {
    return null;
  }
  return isBranchName(name) && encodeBranchName(name) === file ? name as BranchName : null;
}

/**
 * Parses what may be a branch's name or a timeline's id. No branch is called like an id.
 *
 * @throws {ZenithError} `invalid_argument`
 */
export function parseBranchOrTimeline(text: string): BranchName | TimelineId {
  return isId(text) ? parseTimelineId(text) : parseBranchName(text);
}
