/** Ids of tenants and timelines, and names of branches. */
import { randomBytes } from "node:crypto";
import { ZenithError } from "./errors.ts";

/**
 * 32 lower-case hex characters that name a tenant: one customer's branches, separate from all
 * others.
 */
export type TenantId = string & { readonly __brand: "TenantId" };

/**
 * 32 lower-case hex characters that name a timeline: one line of WAL history. A branch is a name
 * for a timeline.
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

/** Whether `text` has the form of an id, in lower or upper case. */
export function isId(text: string): boolean {
  return ID_PATTERN.test(text.toLowerCase());
}

/** Whether a directory can be one that was named by an id: those are in lower case. */
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

/** A name for a timeline within a tenant. Safe as a file name by construction. */
export type BranchName = string & { readonly __brand: "BranchName" };

/** Longer names would not fit a file name with our suffixes on every file system. */
const BRANCH_NAME_MAX_LENGTH = 128;

const BRANCH_NAME_PATTERN = /^[A-Za-z0-9_][A-Za-z0-9_.-]*$/;

/** Whether {@link parseBranchName} takes `text`. */
export function isBranchName(text: string): boolean {
  return text.length <= BRANCH_NAME_MAX_LENGTH && BRANCH_NAME_PATTERN.test(text) && !isId(text);
}

/** @throws {ZenithError} `invalid_argument` when `text` can't be a branch name */
export function parseBranchName(text: string): BranchName {
  if (text.length > BRANCH_NAME_MAX_LENGTH || !BRANCH_NAME_PATTERN.test(text)) {
    throw new ZenithError(
      "invalid_argument",
      `"${text}" is not a branch name: expected 1 to ${BRANCH_NAME_MAX_LENGTH} letters, digits, "_", "-" or ".", ` +
        `not starting with "-" or "."`,
    );
  }
  if (isId(text)) {
    throw new ZenithError(
      "invalid_argument",
      `"${text}" can't be a branch name: it looks like a timeline id`,
    );
  }
  return text as BranchName;
}
