/** Remembers which timelines were deleted on purpose. */
import type { Disk } from "../../common/disk.ts";
import { parseTenantId, parseTimelineId, type TenantId, type TimelineId } from "../../common/id.ts";
import { SmallFile, type SmallFormat } from "../../common/small_file.ts";

/**
 * How many deletions are remembered, the newest ones: 650 KB. Safekeepers keep the WAL of earlier
 * deletions until somebody names it.
 */
const REMEMBERED_MAX = 10_000;

export interface DeletedTimeline {
  readonly tenantId: TenantId;
  readonly timelineId: TimelineId;
}

/** One line `<tenant> <timeline>` for each, the oldest first. */
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
 * Which timelines were deleted on purpose. If a page server lacks a timeline for any other reason,
 * for example because its data was restored from an older copy, it must not make safekeepers
 * discard the last copy of its WAL.
 */
export class DeletedTimelines {
  readonly #file: SmallFile<readonly DeletedTimeline[]>;
  readonly #max: number;
  #list: readonly DeletedTimeline[];

  /**
   * A damaged file is set aside: then nothing is known to be deleted. @throws {ZenithError} `io`
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
   * Call this before the deletion: a timeline that exists after all counts as existing. Durable
   * when it resolves.
   *
   * @throws {ZenithError} `disk_full`, `io`
   */
  async add(tenantId: TenantId, timelines: readonly TimelineId[]): Promise<void> {
    const going = new Set(timelines);
    const kept = this.#list.filter((deleted) =>
      deleted.tenantId !== tenantId || !going.has(deleted.timelineId)
    );
    const list = [...kept, ...timelines.map((timelineId) => ({ tenantId, timelineId }))].slice(-this.#max);
    // At once, so that later additions come after it.
    this.#list = list;
    await this.#file.write(list);
  }
}
