/** `zenith safekeeper list`: shows the position of each safekeeper. */
import { errorMessage } from "../../common/errors.ts";
import { formatHostPort } from "../../common/host_port.ts";
import type { TimelineId } from "../../common/id.ts";
import { formatLsn } from "../../common/lsn.ts";
import { loadEnvironment } from "../../control/environment.ts";
import {
  listSafekeepers,
  type SafekeeperInfo,
  safekeeperStatus,
  type SafekeeperTimelineStatus,
} from "../../control/safekeepers.ts";
import { type Command, EXIT_UNAVAILABLE, JSON_OPTION } from "../cli/command.ts";
import { type Column, formatBytes, printList } from "../cli/output.ts";

export const safekeeperListCommand: Command = {
  usage: "safekeeper list",
  description: "Show how far each safekeeper has the WAL of its timelines",
  options: [JSON_OPTION],
  examples: [
    ["safekeeper list", "One line per safekeeper and timeline"],
  ],
  async run(_args, options) {
    const safekeepers = listSafekeepers(loadEnvironment());
    const answers = await Promise.allSettled(safekeepers.map(({ address }) => safekeeperStatus(address)));
    const ends = furthest(answers.flatMap((answer) => answer.status === "fulfilled" ? answer.value : []));
    const listed = safekeepers.flatMap((safekeeper, i): ListedTimeline[] => {
      const answer = answers[i];
      const none = { safekeeper, timeline: null, lagBytes: null, error: null };
      if (answer.status === "rejected") return [{ ...none, error: errorMessage(answer.reason) }];
      if (answer.value.length === 0) return [none];
      return answer.value.map((timeline) => {
        const lagBytes = ends.get(timeline.timeline_id)! - timeline.flush_lsn;
        return { safekeeper, timeline, lagBytes, error: null };
      });
    });
    const exitCode = listed.some(({ error }) => error !== null) ? EXIT_UNAVAILABLE : 0;
    printList(listed, COLUMNS, timelineJson, options);
    return exitCode;
  },
};

interface ListedTimeline {
  readonly safekeeper: SafekeeperInfo;
  /** Null when the safekeeper has no timelines or does not answer. */
  readonly timeline: SafekeeperTimelineStatus | null;
  /** How far it is behind the most advanced safekeeper. */
  readonly lagBytes: number | null;
  readonly error: string | null;
}

const COLUMNS: readonly Column<ListedTimeline>[] = [
  { title: "ID", cell: ({ safekeeper }) => String(safekeeper.id) },
  { title: "ADDRESS", cell: ({ safekeeper }) => formatHostPort(safekeeper.address) },
  { title: "TENANT", cell: ({ timeline, error }) => error ?? timeline?.tenant_id ?? "-" },
  { title: "TIMELINE", cell: ({ timeline }) => timeline?.timeline_id ?? "-" },
  { title: "TERM", cell: ({ timeline }) => timeline === null ? "-" : String(timeline.term) },
  { title: "FLUSH", cell: ({ timeline }) => timeline === null ? "-" : formatLsn(timeline.flush_lsn) },
  { title: "COMMIT", cell: ({ timeline }) => timeline === null ? "-" : formatLsn(timeline.commit_lsn) },
  {
    title: "PAGE SERVER",
    cell: ({ timeline }) => timeline === null ? "-" : formatLsn(timeline.remote_consistent_lsn),
  },
  { title: "LAG", cell: ({ lagBytes }) => lagBytes === null ? "-" : formatBytes(lagBytes) },
];

function timelineJson({ safekeeper, timeline, lagBytes, error }: ListedTimeline): Record<string, unknown> {
  return {
    id: safekeeper.id,
    address: formatHostPort(safekeeper.address),
    tenant_id: timeline?.tenant_id ?? null,
    timeline_id: timeline?.timeline_id ?? null,
    term: timeline?.term ?? null,
    flush_lsn: timeline === null ? null : formatLsn(timeline.flush_lsn),
    commit_lsn: timeline === null ? null : formatLsn(timeline.commit_lsn),
    remote_consistent_lsn: timeline === null ? null : formatLsn(timeline.remote_consistent_lsn),
    lag_bytes: lagBytes,
    error,
  };
}

/** The position of the most advanced safekeeper, for each timeline. */
function furthest(timelines: readonly SafekeeperTimelineStatus[]): Map<TimelineId, number> {
  const ends = new Map<TimelineId, number>();
  for (const { timeline_id, flush_lsn } of timelines) {
    ends.set(timeline_id, Math.max(flush_lsn, ends.get(timeline_id) ?? 0));
  }
  return ends;
}
