/**
 * Looks at a tenant's directory for what has changed in it. The small files and the metadata of its
 * timelines are always replaced by renaming, so the times of the directories tell.
 */
import { join } from "node:path";
import { type Disk, TEMPORARY_SUFFIX } from "../../common/disk.ts";
import { systemErrorCode } from "../../common/errors.ts";
import { isIdFileName, parseTimelineId, type TenantId, type TimelineId } from "../../common/id.ts";
import { type PageServerPaths, REMOTE_LAYERS_FILE } from "../../common/paths.ts";
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
  /** The timelines there were, when they were listed last. */
  #ids:
    | { readonly mtimeMs: number; readonly isSettled: boolean; readonly list: readonly TimelineId[] }
    | null = null;
  /** What the last call has read, and what it has made of it. */
  #found: readonly Files[] = [];
  #last: LocalTenant | null = null;

  constructor(disk: Disk, paths: PageServerPaths, tenant: TenantId) {
    this.#disk = disk;
    this.#paths = paths;
    this.#tenant = tenant;
  }

  /**
   * Reads what has changed since the last call. Synchronous, and so consistent in itself.
   *
   * @returns the same object as before when nothing has changed; null when the tenant is not here
   * @throws what the disk throws
   */
  read(): LocalTenant | null {
    const root = this.#paths.tenant(this.#tenant);
    if (this.#disk.statSync(root)?.isDirectory !== true) return null;
    const ids = this.#timelineIds();
    const places = [
      { directory: root, prefix: "" },
      { directory: this.#paths.branches(this.#tenant), prefix: "branches/" },
      ...ids.map((id) => ({
        directory: this.#paths.timeline(this.#tenant, id),
        prefix: `timelines/${id}/`,
      })),
    ];
    const found = places.map(({ directory }) => this.#read(directory));
    const isSame = found.length === this.#found.length && found.every((files, i) => files === this.#found[i]);
    if (this.#last !== null && isSame) return this.#last;
    const files = new Map<string, Uint8Array>();
    for (const [i, { prefix }] of places.entries()) {
      for (const [name, bytes] of found[i]) if (name !== METADATA_FILE) files.set(prefix + name, bytes);
    }
    const timelines = new Map(ids.map((id, i) => [id, found[i + 2].get(METADATA_FILE) ?? null]));
    const kept = new Set(places.map(({ directory }) => directory));
    for (const directory of this.#watched.keys()) if (!kept.has(directory)) this.#watched.delete(directory);
    this.#found = found;
    this.#last = { timelines, files };
    return this.#last;
  }

  #timelineIds(): readonly TimelineId[] {
    const directory = this.#paths.timelines(this.#tenant);
    const mtimeMs = this.#disk.statSync(directory)?.mtimeMs ?? 0;
    if (this.#ids?.isSettled === true && this.#ids.mtimeMs === mtimeMs) return this.#ids.list;
    const list = this.#disk.readdirSync(directory).filter(isIdFileName).sort().map(parseTimelineId);
    this.#ids = { mtimeMs, isSettled: isSettled(mtimeMs), list };
    return list;
  }

  #read(directory: string): Files {
    const mtimeMs = this.#disk.statSync(directory)?.mtimeMs ?? 0;
    const before = this.#watched.get(directory);
    if (before !== undefined && before.isSettled && before.mtimeMs === mtimeMs) return before.files;
    const files = new Map<string, Uint8Array>();
    for (const name of this.#disk.readdirSync(directory).sort()) {
      // The list of remote layers says where they are seen from here.
      if (name.endsWith(TEMPORARY_SUFFIX) || isLayerFile(name) || name === REMOTE_LAYERS_FILE) continue;
      if (!isFilePath(name)) continue;
      const path = join(directory, name);
      try {
        if (this.#disk.statSync(path)?.isDirectory === false) files.set(name, this.#disk.readFileSync(path));
      } catch (error) {
        // It was removed meanwhile.
        if (systemErrorCode(error) !== "ENOENT") throw error;
      }
    }
    this.#watched.set(directory, { mtimeMs, isSettled: isSettled(mtimeMs), files });
    return files;
  }
}

function isSettled(mtimeMs: number): boolean {
  return Date.now() - mtimeMs > SETTLED_MS;
}
