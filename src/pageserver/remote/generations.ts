/**
 * Generations: who may write a tenant's manifest. Whoever takes over a tenant creates the next
 * generation's object, which the store lets exactly one do. docs/decisions/0040 has the reasons.
 */
import { randomBytes } from "node:crypto";
import { hostname } from "node:os";
import type { Disk } from "../../common/disk.ts";
import { ZenithError } from "../../common/errors.ts";
import type { TenantId } from "../../common/id.ts";
import { SmallFile, type SmallFormat } from "../../common/small_file.ts";
import { isFailure, listAll, type ObjectStore } from "../../object_store/object_store.ts";
import { parseTenantKey, TenantKeys } from "./keys.ts";

/** What this page server knows of its own generations of a tenant. */
export interface Attachment {
  /** The store's URL. */
  readonly url: string;
  /** Random, written into each generation that this page server takes. */
  readonly owner: string;
  /** The last generation that it has taken, or was about to take. */
  readonly generation: number;
}

const FORMAT: SmallFormat<Attachment> = {
  title: "zenith attachment",
  encode: ({ url, owner, generation }) => [`store ${url}`, `owner ${owner}`, `generation ${generation}`],
  decode: ([url = "", owner = "", generation = ""]) => ({
    url: valueOf("store", url),
    owner: valueOf("owner", owner),
    generation: Number(valueOf("generation", generation)),
  }),
};

function valueOf(name: string, line: string): string {
  if (!line.startsWith(`${name} `)) throw new ZenithError("corrupt_data", `no line "${name}"`);
  return line.slice(name.length + 1);
}

const OWNER_BYTES = 16;
const TAKEOVER_ATTEMPTS = 5;
const OWNER_LINE = /^owner ([0-9a-f]+)$/m;

/** One tenant's generations in the store, and the local file that remembers our own. */
export class Generations {
  readonly #store: ObjectStore;
  readonly #tenant: TenantId;
  readonly #keys: TenantKeys;
  readonly #file: SmallFile<Attachment>;

  /** @param path of the local file */
  constructor(store: ObjectStore, tenant: TenantId, disk: Disk, path: string) {
    this.#store = store;
    this.#tenant = tenant;
    this.#keys = new TenantKeys(tenant);
    this.#file = new SmallFile(disk, path, FORMAT);
  }

  /**
   * Takes the next generation, as the page server that has the tenant on its disk.
   *
   * @throws {ZenithError} `conflict` when another page server has taken the tenant over
   */
  async next(): Promise<number> {
    const newest = await this.newest();
    const found = this.#file.read();
    const ours = found?.url === this.#store.url ? found : null;
    if (newest > (ours?.generation ?? 0)) throw this.#takenOver(newest);
    // A crash may have come between the file and the object, or after both.
    if (newest > 0 && newest === ours?.generation && await this.#ownerOf(newest) !== ours.owner) {
      throw this.#takenOver(newest);
    }
    return await this.#take(newest + 1, ours?.owner ?? randomBytes(OWNER_BYTES).toString("hex"));
  }

  /**
   * Takes the tenant over from whoever has it, also from one that begins a generation at the same
   * time.
   *
   * @param newest the newest generation, as it was found
   * @throws {ZenithError} `conflict` when others take it over again and again
   */
  async takeOver(newest: number): Promise<number> {
    const owner = randomBytes(OWNER_BYTES).toString("hex");
    for (let attempt = 1;; attempt++) {
      if (attempt > 1) newest = await this.newest();
      try {
        return await this.#take(newest + 1, owner);
      } catch (error) {
        const isBeaten = error instanceof ZenithError && error.kind === "conflict";
        if (!isBeaten || attempt === TAKEOVER_ATTEMPTS) throw error;
      }
    }
  }

  /** Whether nobody has taken the tenant over since. Nobody can skip a generation. */
  async isNewest(generation: number): Promise<boolean> {
    try {
      await this.#store.get(this.#keys.generation(generation + 1));
      return false;
    } catch (error) {
      if (isFailure(error, "absent")) return true;
      throw error;
    }
  }

  /** @throws {ZenithError} `conflict` */
  async assertNewest(generation: number): Promise<void> {
    if (!await this.isNewest(generation)) throw this.#takenOver(generation + 1);
  }

  /** The newest generation, 0 for none, also when the store's listing lags: nobody skips one. */
  async newest(): Promise<number> {
    let newest = 0;
    const { generations, folder } = this.#keys;
    for await (const { key } of listAll(this.#store, generations)) {
      const object = parseTenantKey(key.slice(folder.length));
      if (object?.kind === "generation") newest = Math.max(newest, object.generation);
    }
    while (!await this.isNewest(newest)) newest++;
    return newest;
  }

  async #ownerOf(generation: number): Promise<string | undefined> {
    const text = new TextDecoder().decode(await this.#store.get(this.#keys.generation(generation)));
    return OWNER_LINE.exec(text)?.[1];
  }

  async #take(generation: number, owner: string): Promise<number> {
    // Written first: after a crash, the object is known to be ours by its owner.
    await this.#file.write({ url: this.#store.url, owner, generation });
    const body = `host ${hostname()}\nprocess ${process.pid}\nowner ${owner}\n`;
    try {
      await this.#store.putIfAbsent(this.#keys.generation(generation), new TextEncoder().encode(body));
    } catch (error) {
      throw isFailure(error, "precondition") ? this.#takenOver(generation) : error;
    }
    return generation;
  }

  #takenOver(generation: number): ZenithError {
    return new ZenithError(
      "conflict",
      `tenant ${this.#tenant} belongs to generation ${generation} in ${this.#store.url}: another page server ` +
        "has taken it over, or this one's disk is an old copy",
      { hint: "use the tenant there; nothing more is uploaded from here" },
    );
  }
}
