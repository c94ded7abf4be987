/**
 * Remembers which tenants were deleted on purpose, so that the object store hears of it. A tenant
 * may be missing here for another reason: it is attached elsewhere, or just being fetched.
 */
import type { Disk } from "../../common/disk.ts";
import { parseTenantId, type TenantId } from "../../common/id.ts";
import { SmallFile, type SmallFormat } from "../../common/small_file.ts";

/** How many deletions are remembered, the newest ones. What earlier ones had in a store stays. */
const REMEMBERED_MAX = 10_000;

/** One line `<tenant>` for each deletion, the oldest first. */
const FORMAT: SmallFormat<readonly TenantId[]> = {
  title: "zenith deleted tenants",
  encode: (list) => list,
  decode: (lines) => lines.map(parseTenantId),
};

export class DeletedTenants {
  readonly #file: SmallFile<readonly TenantId[]>;
  #list: readonly TenantId[];

  /**
   * A damaged file is moved aside. Then no tenant is known to be deleted. @throws {ZenithError}
   * `io`
   */
  constructor(disk: Disk, path: string) {
    this.#file = new SmallFile(disk, path, FORMAT);
    this.#list = this.#file.readOrSetAside() ?? [];
  }

  get list(): readonly TenantId[] {
    return this.#list;
  }

  /**
   * Call this before the deletion. Durable when it resolves.
   *
   * @throws {ZenithError} `disk_full`, `io`
   */
  async add(tenant: TenantId): Promise<void> {
    await this.#write([...this.#list.filter((id) => id !== tenant), tenant].slice(-REMEMBERED_MAX));
  }

  /**
   * Call this before a tenant comes here again: what is in the store is not to be removed any more.
   *
   * @throws {ZenithError} `disk_full`, `io`
   */
  async remove(tenant: TenantId): Promise<void> {
    if (this.#list.includes(tenant)) await this.#write(this.#list.filter((id) => id !== tenant));
  }

  async #write(list: readonly TenantId[]): Promise<void> {
    // Set it before the write, so that later changes come after this one.
    this.#list = list;
    await this.#file.write(list);
  }
}
