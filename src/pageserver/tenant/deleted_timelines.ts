/** Remembers which timelines were deleted on purpose. */
import type { Disk } from "../../common/disk.ts";
import { parseTenantId, parseTimelineId, type TenantId, type TimelineId } from "../../common/id.ts";
import { SmallFile, type SmallFormat } from "../../common/small_file.ts";

/**
 * How many deletions are remembered, the newest ones: 650 KB. For earlier deletions, safekeepers
 * keep the WAL until somebody names it.
 */
const REMEMBERED_MAX = 10_000;

export interface DeletedTimeline {
  readonly tenantId: TenantId;
  readonly timelineId: TimelineId;
}

/** One line `<tenant> <timeline>` for each deletion, the oldest first. */
const FORMAT: SmallFormat<readonly DeletedTimeline[]> = {
  title: "zenith deleted timelines",
  encode: (list) => list.map(({ tenantId, timelineId }) => `${tenantId} ${timelineId}`),
  decode: (lines) =>
    lines.map((line) => {
      const [tenant = "", timeline = ""] = line.split(" ");
      return { tenantId: parseTenantId(tenant), timelineId: parseTimelineId(timeline) };
    }),
};

/**
 * The timelines that were deleted on purpose. A page server may lack a timeline for another reason,
 * for example because its data was restored from an older copy. Then it must not make safekeepers
 * discard the last copy of the timeline's WAL.
 */
export class DeletedTimelines {
  readonly #file: SmallFile<readonly DeletedTimeline[]>;
  readonly #max: number;
  #list: readonly DeletedTimeline[];

  /**
   * A damaged file is moved aside. Then no timeline is known to be deleted. @throws {ZenithError}
   * `io`
   */
  constructor(disk: Disk, path: string, max = REMEMBERED_MAX) {
    this.#file = new SmallFile(disk, path, FORMAT);
    this.#max = max;
    this.#list = this.#file.readOrSetAside() ?? [];
  }

  get list(): readonly DeletedTimeline[] {
    return this.#list;
  }

  /**
   * Adds deletions. Call this before the deletion: a timeline that exists after all counts as
   * existing. Durable when it resolves.
   *
   * @throws {ZenithError} `disk_full`, `io`
   */
  async add(tenantId: TenantId, timelines: readonly TimelineId[]): Promise<void> {
    const going = new Set(timelines);
    const kept = this.#list.filter((deleted) =>
      deleted.tenantId !== tenantId || !going.has(deleted.timelineId)
    );
    const list = [...kept, ...timelines.map((timelineId) => ({ tenantId, timelineId }))].slice(-this.#max);
    await this.#write(list);
  }

  /**
   * Forgets deletions of timelines that a tenant has after all. Durable when it resolves.
   *
   * @throws {ZenithError} `disk_full`, `io`
   */
  async exist(tenantId: TenantId, exists: (timeline: TimelineId) => boolean): Promise<void> {
    const isBack = (deleted: DeletedTimeline) => deleted.tenantId === tenantId && exists(deleted.timelineId);
    if (this.#list.some(isBack)) await this.#write(this.#list.filter((deleted) => !isBack(deleted)));
  }

  async #write(list: readonly DeletedTimeline[]): Promise<void> {
    // Set it before the write, so that later changes come after this one.
    this.#list = list;
    await this.#file.write(list);
  }
}
