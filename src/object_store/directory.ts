/**
 * An object store in a directory: of this machine, for tests and small sites, or of a file server.
 * An object is a file. A file appears complete or not at all, and is durable with its name.
 */
import { link, mkdir, open, readdir, rename, rm, stat } from "node:fs/promises";
import { randomBytes } from "node:crypto";
import { dirname, join } from "node:path";
import { pathToFileURL } from "node:url";
import { ioError, systemErrorCode, ZenithError } from "../common/errors.ts";
import {
  type ByteRange,
  checkKey,
  type ListOptions,
  type ListPage,
  type ObjectInfo,
  type ObjectStore,
  ObjectStoreError,
} from "./object_store.ts";

const FILE_MODE = 0o600;
const DIRECTORY_MODE = 0o700;
/** No key has a part that begins with a dot, so such names are never listed. */
const TEMPORARY_PREFIX = ".";

export class DirectoryStore implements ObjectStore {
  readonly url: string;
  readonly #root: string;

  /** @param root is created when it is first written to */
  constructor(root: string) {
    this.#root = root;
    this.url = pathToFileURL(root).href;
  }

  async put(key: string, body: Uint8Array): Promise<void> {
    await this.#write(key, body, (temporary, path) => rename(temporary, path));
  }

  async putIfAbsent(key: string, body: Uint8Array): Promise<void> {
    await this.#write(key, body, async (temporary, path) => {
      try {
        await link(temporary, path);
      } catch (error) {
        if (systemErrorCode(error) !== "EEXIST") throw error;
        throw new ObjectStoreError("precondition", `${path} exists already`);
      } finally {
        await rm(temporary, { force: true });
      }
    });
  }

  async get(key: string, range?: ByteRange): Promise<Uint8Array> {
    const path = this.#path(key);
    try {
      await using file = await open(path, "r");
      const start = range?.start ?? 0;
      const length = (range?.end ?? (await file.stat()).size) - start;
      const bytes = new Uint8Array(length);
      for (let done = 0; done < length;) {
        const { bytesRead } = await file.read(bytes, done, length - done, start + done);
        if (bytesRead === 0) {
          throw new ZenithError("out_of_range", `${path} ends before byte ${start + length}`);
        }
        done += bytesRead;
      }
      return bytes;
    } catch (error) {
      if (systemErrorCode(error) === "ENOENT") throw new ObjectStoreError("absent", `there is no ${path}`);
      throw error instanceof ZenithError ? error : ioError("read", path, error);
    }
  }

  async list(prefix: string, options: ListOptions = {}): Promise<ListPage> {
    // Each page looks at all folders, so there is one page unless fewer are asked for.
    const { shallow = false, from, limit = Infinity } = options;
    try {
      const names = await this.#names(prefix, shallow);
      const after = from === undefined ? names : names.filter((name) => name > from);
      const page = after.slice(0, limit);
      const objects: ObjectInfo[] = [];
      for (const key of page.filter((name) => !name.endsWith("/"))) {
        const found = await statIfThere(join(this.#root, key));
        if (found !== null) objects.push({ key, sizeBytes: found.size, modifiedMs: found.mtimeMs });
      }
      return {
        objects,
        folders: page.filter((name) => name.endsWith("/")),
        next: after.length > limit ? page.at(-1)! : null,
      };
    } catch (error) {
      throw error instanceof ZenithError ? error : ioError("list", this.#root, error);
    }
  }

  async deleteMany(keys: readonly string[]): Promise<void> {
    for (const key of keys) {
      const path = this.#path(key);
      try {
        await rm(path, { force: true });
      } catch (error) {
        throw ioError("remove", path, error);
      }
    }
  }

  /** Lists the keys that begin with the prefix, ascending. If shallow, folders stand for theirs. */
  async #names(prefix: string, shallow: boolean): Promise<string[]> {
    const folder = prefix.slice(0, prefix.lastIndexOf("/") + 1);
    const found: string[] = [];
    const visit = async (at: string): Promise<void> => {
      for (const entry of await entriesIfThere(join(this.#root, at))) {
        if (entry.name.startsWith(TEMPORARY_PREFIX)) continue;
        const key = at + entry.name;
        if (!entry.isDirectory()) {
          if (key.startsWith(prefix)) found.push(key);
        } else if (shallow && `${key}/`.startsWith(prefix)) found.push(`${key}/`);
        else if (!shallow && (`${key}/`.startsWith(prefix) || prefix.startsWith(`${key}/`))) {
          await visit(`${key}/`);
        }
      }
    };
    await visit(folder);
    return found.sort();
  }

  async #write(
    key: string,
    body: Uint8Array,
    install: (temporary: string, path: string) => Promise<void>,
  ): Promise<void> {
    const path = this.#path(key);
    const folder = dirname(path);
    const temporary = join(folder, `${TEMPORARY_PREFIX}${randomBytes(8).toString("hex")}`);
    try {
      await this.#makeFolder(folder);
      try {
        await using file = await open(temporary, "wx", FILE_MODE);
        await file.writeFile(body);
        await file.sync();
      } catch (error) {
        await rm(temporary, { force: true });
        throw error;
      }
      await install(temporary, path);
      await syncDirectory(folder);
    } catch (error) {
      throw error instanceof ZenithError ? error : ioError("write", path, error);
    }
  }

  /** Creates a folder and those above it, and makes their names durable. */
  async #makeFolder(folder: string): Promise<void> {
    const first = await mkdir(folder, { recursive: true, mode: DIRECTORY_MODE });
    if (first === undefined) return;
    for (let at = folder; at.length >= first.length; at = dirname(at)) await syncDirectory(dirname(at));
  }

  #path(key: string): string {
    checkKey(key);
    return join(this.#root, key);
  }
}

async function syncDirectory(path: string): Promise<void> {
  await using directory = await open(path, "r");
  await directory.sync();
}

async function entriesIfThere(path: string) {
  try {
    return await readdir(path, { withFileTypes: true });
  } catch (error) {
    if (systemErrorCode(error) === "ENOENT") return [];
    throw error;
  }
}

async function statIfThere(path: string) {
  try {
    return await stat(path);
  } catch (error) {
    if (systemErrorCode(error) === "ENOENT") return null;
    throw error;
  }
}
