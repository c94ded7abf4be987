/** The files that name a tenant's branches. */
import { type Disk, TEMPORARY_SUFFIX } from "../../common/disk.ts";
import { ioError, withIoErrors, ZenithError } from "../../common/errors.ts";
import {
  assertNewBranchName,
  type BranchName,
  branchOfFileName,
  isId,
  parseBranchName,
  parseTimelineId,
  type TenantId,
  type TimelineId,
} from "../../common/id.ts";
import { type Lsn, parseLsn } from "../../common/lsn.ts";
import type { PageServerPaths } from "../../common/paths.ts";
import { parseTimestamp } from "../../common/timestamp.ts";
import { SmallFile } from "../../common/small_file.ts";
import { BRANCH_FORMAT, type BranchContent } from "./branch_file_format.ts";

/** A branch as stored on disk. */
export interface Branch extends BranchContent {
  readonly name: BranchName;
}

/** A file among the branches' files that does not name a branch. */
export interface DamagedBranchFile {
  readonly file: string;
  /** The branch that the file is named after. Null when there can't be one. */
  readonly name: BranchName | null;
  /** What is wrong, including the path. */
  readonly error: ZenithError;
}

/**
 * Verbs that follow `zenith branch`, or that users of other systems expect there. No new branch
 * gets such a name.
 */
const RESERVED_NAMES: ReadonlySet<string> = new Set([
  "add",
  "add-compute",
  "checkout",
  "copy",
  "create",
  "default",
  "delete",
  "diff",
  "get",
  "help",
  "history",
  "info",
  "list",
  "ls",
  "mask",
  "merge",
  "move",
  "mv",
  "new",
  "protect",
  "remove",
  "rename",
  "require-mask",
  "reset",
  "restore",
  "rm",
  "schema-diff",
  "sd",
  "set-default",
  "set-expiration",
  "set-expiry",
  "show",
  "start",
  "stop",
  "switch",
  "unprotect",
]);

/**
 * A tenant's branch names, with one small file for each. A branch exists for as long as its file
 * does.
 */
export class BranchFiles {
  readonly #disk: Disk;
  readonly #paths: PageServerPaths;
  readonly #tenant: TenantId;
  /**
   * What each whole file says. Nobody else changes the files, so each is read once: there may be
   * ten thousand of them.
   */
  readonly #known = new Map<BranchName, Branch>();
  /** What {@link requiringMask} has found; null when it has to be looked up. */
  #requiringMask: ReadonlyMap<TimelineId, BranchName> | null = null;

  constructor(disk: Disk, paths: PageServerPaths, tenant: TenantId) {
    this.#disk = disk;
    this.#paths = paths;
    this.#tenant = tenant;
  }

  /**
   * Lists all branches by name, except those whose files are damaged. @throws {ZenithError} `io`
   */
  list(): Branch[] {
    const { branches, damaged } = this.scan();
    // A file that can't be read now may not be damaged.
    const unread = damaged.find(({ error }) => error.kind !== "corrupt_data");
    if (unread !== undefined) throw unread.error;
    return branches;
  }

  /**
   * Lists all branches, and the files that should be branches but are not, both by name.
   *
   * @throws {ZenithError} `io`
   */
  scan(): { branches: Branch[]; damaged: DamagedBranchFile[] } {
    const directory = this.#paths.branches(this.#tenant);
    const files = withIoErrors("list branches in", directory, () => this.#disk.readdirSync(directory))
      .filter((file) => !file.endsWith(TEMPORARY_SUFFIX)).sort();
    const branches: Branch[] = [];
    const damaged: DamagedBranchFile[] = [];
    for (const file of files) {
      const name = branchOfFileName(file);
      if (name === null) {
        damaged.push({
          file,
          name,
          error: new ZenithError(
            "corrupt_data",
            `${directory}/${file} does not belong there: no branch is called that`,
          ),
        });
        continue;
      }
      try {
        branches.push(this.#known.get(name) ?? this.#read(name));
      } catch (error) {
        if (!(error instanceof ZenithError)) throw error;
        damaged.push({ file, name, error });
      }
    }
    // What was removed by hand does not come back.
    if (this.#known.size > branches.length) {
      const names = new Set(branches.map(({ name }) => name));
      for (const name of this.#known.keys()) if (!names.has(name)) this.#known.delete(name);
    }
    return { branches, damaged };
  }

  /** Returns the branch of a timeline; null when none names it. @throws {ZenithError} `io` */
  ofTimeline(id: TimelineId): Branch | null {
    return this.scan().branches.find(({ timelineId }) => timelineId === id) ?? null;
  }

  /**
   * The timelines of the branches that require a mask, with their names.
   *
   * @throws {ZenithError} `io`
   */
  requiringMask(): ReadonlyMap<TimelineId, BranchName> {
    if (this.#requiringMask !== null) return this.#requiringMask;
    const { branches, damaged } = this.scan();
    const marked = branches.filter(({ requiresMask }) => requiresMask);
    const found = new Map(marked.map(({ timelineId, name }) => [timelineId, name]));
    if (damaged.length === 0) this.#requiringMask = found;
    return found;
  }

  /** Returns null when there is no such branch. @throws {ZenithError} `corrupt_data` */
  get(name: BranchName): Branch | null {
    return this.#exists(name) ? this.#known.get(name) ?? this.#read(name) : null;
  }

  /**
   * @throws {ZenithError} `already_exists` when the name is taken, `invalid_argument` when no
   *   branch may have it
   */
  assertFree(name: BranchName): void {
    assertNewBranchName(name);
    if (RESERVED_NAMES.has(name)) {
      throw new ZenithError("invalid_argument", `a branch can't be called "${name}"`, {
        hint: `"zenith branch ${name}" is a command, or may become one`,
      });
    }
    if (this.#exists(name)) throw new ZenithError("already_exists", `branch ${name} already exists`);
  }

  /**
   * Creates a branch's file. It is durable when this resolves. Only one change at a time may run.
   *
   * @throws {ZenithError} as {@link assertFree}
   */
  async create(branch: Branch): Promise<void> {
    this.assertFree(branch.name);
    if (branch.requiresMask) this.#requiringMask = null;
    await this.#write(branch);
  }

  /** Changes the contents of a branch's file. Atomic, and durable when it resolves. */
  async replace(branch: Branch): Promise<void> {
    this.#requiringMask = null;
    await this.#write(branch);
  }

  /**
   * Renames a branch. Atomic, and durable when it resolves. @throws {ZenithError} as
   * {@link assertFree}
   */
  async rename(from: BranchName, to: BranchName): Promise<void> {
    this.assertFree(to);
    const path = this.#paths.branch(this.#tenant, from);
    this.#known.delete(from);
    this.#known.delete(to);
    this.#requiringMask = null;
    try {
      this.#disk.renameSync(path, this.#paths.branch(this.#tenant, to));
      await this.#disk.fsyncDir(this.#paths.branches(this.#tenant));
    } catch (error) {
      throw ioError("rename branch", path, error);
    }
  }

  /** Removes a branch's file, even a damaged one. Durable when it resolves. */
  async remove(name: BranchName): Promise<void> {
    const path = this.#paths.branch(this.#tenant, name);
    this.#known.delete(name);
    this.#requiringMask = null;
    try {
      this.#disk.unlinkSync(path);
      await this.#disk.fsyncDir(this.#paths.branches(this.#tenant));
    } catch (error) {
      throw ioError("remove branch", path, error);
    }
  }

  #exists(name: BranchName): boolean {
    const path = this.#paths.branch(this.#tenant, name);
    return withIoErrors("look for branch", path, () => this.#disk.statSync(path)) !== null;
  }

  #read(name: BranchName): Branch {
    const content = this.#file(name).read();
    if (content === null) throw new ZenithError("not_found", `there is no branch ${name}`);
    const branch = { name, ...content };
    this.#known.set(name, branch);
    return branch;
  }

  async #write(branch: Branch): Promise<void> {
    try {
      await this.#file(branch.name).write(branch);
    } finally {
      // A failed write leaves one content or the other.
      this.#known.delete(branch.name);
    }
  }

  #file(name: BranchName): SmallFile<BranchContent> {
    return new SmallFile(this.#disk, this.#paths.branch(this.#tenant, name), BRANCH_FORMAT);
  }
}

/**
 * Where a new branch begins: on a branch or a timeline, at an LSN, at a point in time, or at its
 * end.
 */
export interface StartPoint {
  readonly branch: BranchName | null;
  readonly timelineId: TimelineId | null;
  readonly lsn: Lsn | null;
  /** Microseconds since 2000. */
  readonly timestamp: number | null;
}

/**
 * Parses `main`, `main@0/16B5A50`, `main@2026-11-22T09:30:00Z`, or the same with a timeline's id in
 * place of the name.
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
