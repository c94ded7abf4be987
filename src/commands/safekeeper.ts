import { existsSync } from "node:fs";
import { runRole } from "../../server.ts";
import { startDaemon } from "../common/daemon.ts";
import { parseDuration } from "../common/duration.ts";
import { errorMessage, ZenithError } from "../common/errors.ts";
import { formatHostPort, parseHostPort } from "../common/host_port.ts";
import type { TimelineId } from "../common/id.ts";
import { formatLsn } from "../common/lsn.ts";
import { SafekeeperPaths } from "../common/paths.ts";
import { loadEnvironment } from "../control/environment.ts";
import {
  listSafekeepers,
  type SafekeeperInfo,
  safekeeperStatus,
  type SafekeeperTimelineStatus,
} from "../control/safekeepers.ts";
import { type Command, EXIT_UNAVAILABLE, JSON_OPTION, optionText, type OptionValues } from "./command.ts";
import { type Column, formatBytes, print, printList } from "./output.ts";

const START_TIMEOUT_MS = 60_000;
const DEFAULT_LISTEN = "127.0.0.1:5454";

/** The safekeeper role, in this process or, with `--daemonize`, in the background. */
export const safekeeperCommand: Command = {
  usage: "safekeeper",
  description: "Run a safekeeper, as systemd would",
  options: [
    { flags: "-D, --dir <dir>", description: "Its working directory", default: "." },
    {
      flags: "-l, --listen <host:port>",
      description: "Where it listens; port 0 takes a free one",
      default: DEFAULT_LISTEN,
    },
    { flags: "--id <n>", description: "Its number among the safekeepers", default: "1" },
    {
      flags: "--pageserver <host:port>",
      description: "The page server that is called when there is WAL for it",
    },
    {
      flags: "--recall <duration>",
      description: "How often it is called while it does not come",
      default: "1s",
    },
    { flags: "--no-sync", description: "Never wait for the disk: commits may be lost with the machine" },
    { flags: "--log-file <file>", description: "Where it logs; standard error when left out" },
    { flags: "--daemonize", description: "Run in the background; log to safekeeper.log" },
  ],
  examples: [
    [
      "safekeeper -D /var/lib/zenith/sk1 -l 10.0.0.1:5454 --id 1 --pageserver 10.0.0.9:64000",
      "One of three, each on a machine of its own",
    ],
  ],
  async run(_args, options) {
    const paths = new SafekeeperPaths(optionText(options, "dir") ?? ".");
    if (!existsSync(paths.workdir)) {
      throw new ZenithError("not_found", `${paths.workdir} does not exist`, {
        hint: "make the directory first; everything the safekeeper keeps goes there",
      });
    }
    const listen = parseHostPort(optionText(options, "listen") ?? DEFAULT_LISTEN);
    const id = parseSafekeeperId(optionText(options, "id") ?? "1");
    const pageserver = optionText(options, "pageserver");
    const recall = optionText(options, "recall");
    const role = {
      paths,
      listen,
      id,
      sync: options["sync"] === true,
      ...(pageserver === undefined ? {} : { pageserver: parseHostPort(pageserver) }),
      ...(recall === undefined ? {} : { recallIntervalMs: parseDuration(recall) }),
    };
    if (options["daemonize"] === true) return await daemonize(paths, options);
    const { runSafekeeper } = await import("../safekeeper/start.ts");
    return await runRole({
      name: "safekeeper",
      pidFile: paths.pidFile,
      logFile: optionText(options, "logFile"),
      start: ({ log }) => runSafekeeper({ ...role, logger: log }),
    });
  },
};

async function daemonize(paths: SafekeeperPaths, options: OptionValues): Promise<void> {
  const logFile = optionText(options, "logFile") ?? paths.log;
  const given = (["listen", "id", "pageserver", "recall"] as const).flatMap((name) => {
    const value = optionText(options, name);
    return value === undefined ? [] : [`--${name}`, value];
  });
  const sync = options["sync"] === true ? [] : ["--no-sync"];
  const { pid, address } = await startDaemon({
    args: ["safekeeper", "-D", paths.workdir, ...given, ...sync, "--log-file", logFile],
    logFile,
    timeoutMs: START_TIMEOUT_MS,
  });
  const where = address === undefined ? optionText(options, "listen") : formatHostPort(address);
  print(`safekeeper started on ${where}, process ${pid}`);
}

function parseSafekeeperId(text: string): number {
  if (/^[1-9]\d{0,8}$/.test(text)) return Number(text);
  throw new ZenithError("invalid_argument", `"${text}" is not the number of a safekeeper: expected 1, 2, …`);
}

/** How far the furthest safekeeper is with each timeline. */
function furthest(timelines: readonly SafekeeperTimelineStatus[]): Map<TimelineId, number> {
  const ends = new Map<TimelineId, number>();
  for (const { timeline_id, flush_lsn } of timelines) {
    ends.set(timeline_id, Math.max(flush_lsn, ends.get(timeline_id) ?? 0));
  }
  return ends;
}

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
      const answer = answers[i]!;
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
  /** null when it has none, or does not answer. */
  readonly timeline: SafekeeperTimelineStatus | null;
  /** What it lacks of what the furthest safekeeper has. */
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
