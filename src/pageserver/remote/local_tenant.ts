/**
 * Looks at a tenant's directory for what has changed in it. The small files and the metadata of its
 * timelines are always replaced by renaming, so the times of the directories tell.
 */
import { join } from "node:path";
import { type Disk, TEMPORARY_SUFFIX } from "../../common/disk.ts";
import { systemErrorCode } from "../../common/errors.ts";
import { isIdFileName, parseTimelineId, type TenantId, type TimelineId } from "../../common/id.ts";
import type { PageServerPaths } from "../../common/paths.ts";
import { isLayerFile, METADATA_FILE } from "../../pagestore/mod.ts";
import { isFilePath } from "./manifest.ts";

/**
 * A directory that was changed less than this before it was read may change again without getting
 * another time.
 */
const SETTLED_MS = 1_000;

/** Files by their names. */
type Files = ReadonlyMap<string, Uint8Array>;

interface Watched {
  readonly mtimeMs: number;
  readonly isSettled: boolean;
  readonly files: Files;
}

/** A tenant's files at one moment. */
export interface LocalTenant {
  /** The metadata of each timeline. Null where there is none. */
  readonly timelines: ReadonlyMap<TimelineId, Uint8Array | null>;
  /** All other small files, by their paths below the tenant's directory. */
  readonly files: Files;
}

/** One tenant's directory. */
export class TenantDirectory {
  readonly #disk: Disk;
  readonly #paths: PageServerPaths;
  readonly #tenant: TenantId;
  readonly #watched = new Map<string, Watched>();

  constructor(disk: Disk, paths: PageServerPaths, tenant: TenantId) {
    this.#disk = disk;
    this.#paths = paths;
    this.#tenant = tenant;
  }

  /**
   * Reads what has changed since the last call. Synchronous, and so consistent in itself.
   *
   * @returns null when the tenant is not here
   * @throws what the disk throws
   */
  read(): LocalTenant | null {
    const root = this.#paths.tenant(this.#tenant);
    if (this.#disk.statSync(root)?.isDirectory !== true) return null;
    const files = new Map<string, Uint8Array>();
    const timelines = new Map<TimelineId, Uint8Array | null>();
    const seen = new Set<string>();
    const add = (directory: string, prefix: string): Files => {
      seen.add(directory);
      const found = this.#read(directory);
      for (const [name, bytes] of found) {
        if (name !== METADATA_FILE) files.set(prefix + name, bytes);
      }
      return found;
    };
    add(root, "");
    add(this.#paths.branches(this.#tenant), "branches/");
    for (const name of this.#disk.readdirSync(this.#paths.timelines(this.#tenant)).sort()) {
      if (!isIdFileName(name)) continue;
      const id = parseTimelineId(name);
      const found = add(this.#paths.timeline(this.#tenant, id), `timelines/${id}/`);
      timelines.set(id, found.get(METADATA_FILE) ?? null);
    }
    for (const directory of this.#watched.keys()) {
      if (!seen.has(directory)) this.#watched.delete(directory);
    }
    return { timelines, files };
  }

  #read(directory: string): Files {
    const mtimeMs = this.#disk.statSync(directory)?.mtimeMs ?? 0;
    const before = this.#watched.get(directory);
    if (before !== undefined && before.isSettled && before.mtimeMs === mtimeMs) return before.files;
    const files = new Map<string, Uint8Array>();
    for (const name of this.#disk.readdirSync(directory).sort()) {
      if (name.endsWith(TEMPORARY_SUFFIX) || isLayerFile(name) || !isFilePath(name)) continue;
      const path = join(directory, name);
      try {
        if (this.#disk.statSync(path)?.isDirectory === false) files.set(name, this.#disk.readFileSync(path));
      } catch (error) {
        // It was removed meanwhile.
        if (systemErrorCode(error) !== "ENOENT") throw error;
      }
    }
    this.#watched.set(directory, { mtimeMs, isSettled: Date.now() - mtimeMs > SETTLED_MS, files });
    return files;
  }
}
