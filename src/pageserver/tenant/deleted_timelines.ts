import type { Disk } from "../../common/disk.ts";
import { parseTenantId, parseTimelineId, type TenantId, type TimelineId } from "../../common/id.ts";
import { SmallFile, type SmallFormat } from "../../common/small_file.ts";

/**
 * So many deletions are remembered, the newest: 650 KB. Of what was deleted before, safekeepers
 * keep the WAL until somebody names it.
 */
const REMEMBERED_MAX = 10_000;

export interface DeletedTimeline {
  readonly tenantId: TenantId;
  readonly timelineId: TimelineId;
}

/** A line `<tenant> <timeline>` for each, the oldest first. */
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
 * Which timelines were deleted on purpose. A page server that lacks a timeline for any other
 * reason, because its data were restored from an older copy for example, must not have safekeepers
 * throw away the last copy of its WAL.
 */
export class DeletedTimelines {
  readonly #file: SmallFile<readonly DeletedTimeline[]>;
  readonly #max: number;
  #list: readonly DeletedTimeline[];

  /**
   * A damaged file is set aside: nothing is known to be deleted then. @throws {ZenithError} `io`
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
    // At once: what is added meanwhile comes behind it.
    this.#list = list;
    await this.#file.write(list);
  }
}
