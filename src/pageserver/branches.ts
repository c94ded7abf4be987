import { type Disk, replaceFileSync, TEMPORARY_SUFFIX } from "../common/disk.ts";
import { ZenithError } from "../common/errors.ts";
import {
  type BranchName,
  isId,
  parseBranchName,
  parseTimelineId,
  type TenantId,
  type TimelineId,
} from "../common/id.ts";
import { type Lsn, parseLsn } from "../common/lsn.ts";
import type { PageServerPaths } from "../common/paths.ts";
import { parseTimestamp } from "../common/timestamp.ts";

/** A tenant's branch names: one small file each that holds a timeline id. */
export class BranchFiles {
  readonly #disk: Disk;
  readonly #paths: PageServerPaths;
  readonly #tenant: TenantId;

  constructor(disk: Disk, paths: PageServerPaths, tenant: TenantId) {
    this.#disk = disk;
    this.#paths = paths;
    this.#tenant = tenant;
  }

  /** All branches, by name. */
  list(): { name: BranchName; timelineId: TimelineId }[] {
    return this.#disk.readdirSync(this.#paths.branches(this.#tenant))
      .filter((file) => !file.endsWith(TEMPORARY_SUFFIX))
      .map(parseBranchName)
      .sort()
      .map((name) => ({ name, timelineId: this.#read(name) }));
  }

  /** null when there is no such branch. */
  get(name: BranchName): TimelineId | null {
    if (this.#disk.statSync(this.#paths.branch(this.#tenant, name)) === null) return null;
    return this.#read(name);
  }

  /** Durable when it returns. @throws {ZenithError} `already_exists` when the name is taken */
  create(name: BranchName, timeline: TimelineId): void {
    if (this.get(name) !== null) throw new ZenithError("already_exists", `branch ${name} already exists`);
    replaceFileSync(
      this.#disk,
      this.#paths.branches(this.#tenant),
      this.#paths.branch(this.#tenant, name),
      new TextEncoder().encode(`${timeline}\n`),
    );
  }

  #read(name: BranchName): TimelineId {
    const path = this.#paths.branch(this.#tenant, name);
    const text = new TextDecoder().decode(this.#disk.readFileSync(path)).trim();
    if (!isId(text)) {
      throw new ZenithError(
        "corrupt_data",
        `branch file ${path} holds "${text}" where a timeline id belongs`,
      );
    }
    return parseTimelineId(text);
  }
}

/** Where a new branch leaves: a branch or a timeline, at an LSN, at a point in time, or at its end. */
export interface StartPoint {
  readonly branch: BranchName | null;
  readonly timelineId: TimelineId | null;
  readonly lsn: Lsn | null;
  /** Microseconds since 2000. */
  readonly timestamp: number | null;
}

/**
 * Reads `main`, `main@0/16B5A50`, `main@2026-11-22T09:30:00Z`, or the same with a timeline's id for the name.
 *
 * @throws {ZenithError} `invalid_argument`
 */
export function parseStartPoint(text: string): StartPoint {
  const at = text.indexOf("@");
  const name = at === -1 ? text : text.slice(0, at);
  const moment = at === -1 ? "" : text.slice(at + 1);
  const isTime = /^\d{4}-/.test(moment);
  const lsn = at === -1 || isTime ? null : parseLsn(moment);
  const timestamp = isTime ? parseTimestamp(moment, "none") : null;
  if (isId(name)) return { branch: null, timelineId: parseTimelineId(name), lsn, timestamp };
  return { branch: parseBranchName(name), timelineId: null, lsn, timestamp };
}
