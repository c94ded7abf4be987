/** `zenith compute`: runs the supervisor of one Postgres. */
import { existsSync } from "node:fs";
import { basename, dirname } from "node:path";
import { runRole } from "../../process/run_role.ts";
import { openParentChannel, type ParentChannel } from "../../process/parent_channel.ts";
import { canBeSpare, type HandedWork, waitAsSpare } from "../../process/spare.ts";
import { claimSlot } from "../../process/spare_slots.ts";
import { supervisorsAhead } from "../../control/spare_supervisors.ts";
import { closeIdleConnections } from "../../protocol/calls_in_a_row.ts";
import { collectGarbage } from "../../common/garbage.ts";
import { errorMessage, ZenithError } from "../../common/errors.ts";
import { parseHostPort } from "../../common/host_port.ts";
import { parseLsn } from "../../common/lsn.ts";
import { type CgroupLimits, removeCgroup } from "../../compute/postgres/cgroup.ts";
import { ComputePaths } from "../../common/paths.ts";
import { type MaskFile, parseMaskFile } from "../../common/mask_file.ts";
import type { Logger } from "../../process/log.ts";
import { parseStorageChoice, STORAGE_CHOICES, STORAGE_DEFAULT } from "../../compute/storage.ts";
import { locatePostgres } from "../../pg_install/find_postgres.ts";
import { type Command, type CommandOption, optionText, type OptionValues } from "../cli/command.ts";
import { parseOptions } from "../cli/run.ts";

export const STORAGE_OPTION: CommandOption = {
  flags: "--storage <how>",
  description: `How relation files come, ${
    STORAGE_CHOICES.join(", ")
  }: page by page when they are read, all at the start`,
  values: STORAGE_CHOICES,
};

export const PREWARM_OPTION: CommandOption = {
  flags: "--prewarm",
  description: "Fetch in the background what was used before the last stop (lazy storage)",
};

export const READ_ONLY_OPTION: CommandOption = {
  flags: "--lsn <lsn>",
  description: "Look at the branch as it was at that LSN, without writing to it",
};

/** Options of a branch's first start. */
export const FIRST_START_OPTIONS: readonly CommandOption[] = [
  {
    flags: "--keep-subscriptions",
    description: "Let a branch's subscriptions go on at its first start, by the slots of its parent",
  },
  { flags: "--keep-cron", description: "Let pg_cron run its jobs at the first start of a branch" },
  {
    flags: "--first-start-sql <file>",
    description: "SQL to run at the first start of a branch, before anybody else gets in",
  },
];

/** Runs the supervisor of one Postgres. `pg start` runs this in the background. */
export const computeCommand: Command = {
  usage: "compute",
  description: "Run the Postgres of one compute directory",
  hidden: true,
  options: [
    { flags: "-D, --dir <dir>", description: "The compute's directory" },
    {
      flags: "--pg-distrib-dir <dir>",
      description: "The PostgreSQL to use: an installation, or a directory for each major",
    },
    STORAGE_OPTION,
    { flags: "--overlay-max-mb <mb>", description: "What lazy storage should take of the disk at most" },
    { flags: "--cgroup <dir>", description: "The control group that Postgres gets, with these limits" },
    { flags: "--memory-max-mb <mb>", description: "Of memory" },
    { flags: "--cpus <n>", description: "Of cores" },
    { flags: "--processes-max <n>", description: "Of processes" },
    PREWARM_OPTION,
    READ_ONLY_OPTION,
    { flags: "--follow <address>", description: "Follow the branch of the Postgres there, without writing" },
    ...FIRST_START_OPTIONS,
    {
      flags: "--mask <[database=]file>",
      description: "SQL that masks the branch at its first start; nobody else gets in",
      multiple: true,
    },
    { flags: "--token-file <file>", description: "The token for its servers; its own when left out" },
    {
      flags: "--ca-file <file>",
      description: "The certificates by which it recognizes servers on other machines",
      default: "ca.pem",
    },
    { flags: "--spares <dir>", description: "Where to wait for the next start after a stop" },
    { flags: "--spare-ahead", description: "Have another process wait there while this one works" },
    { flags: "--wait", description: "Wait there for the first start" },
  ],
  async run(_args, options) {
    let parent = openParentChannel();
    if (options["wait"] === true) {
      const work = await waitAhead(options, parent);
      if (work === undefined) return 0;
      parent = work.parent;
      options = await parseOptions(computeCommand, work.args);
    }
    for (let lives = 1;; lives++) {
      const { spares } = options;
      let waiting: Promise<HandedWork | undefined> | undefined;
      const exitCode = await runSupervisor(options, parent, async (paths, log) => {
        const remove = existsSync(paths.deleted) ? await removal(paths, log) : undefined;
        // It waits before the compute is given up, so that "zenith stop" finds this process under
        // one name or the other, and the next start finds it at all.
        const slot = typeof spares === "string" && mayServeAgain(lives) ? claimSlot(spares) : undefined;
        if (slot !== undefined) waiting = waitAsSpare(slot);
        remove?.();
      });
      const work = await waiting;
      if (work === undefined) return exitCode;
      closeIdleConnections();
      parent = work.parent;
      options = await parseOptions(computeCommand, work.args);
    }
  },
};

/** Waits for the first work of this process, and gets ready for it meanwhile. */
async function waitAhead(options: OptionValues, parent: ParentChannel): Promise<HandedWork | undefined> {
  const spares = optionText(options, "spares");
  const slot = spares === undefined ? undefined : claimSlot(spares, "last");
  if (slot === undefined) return undefined;
  const waiting = waitAsSpare(slot, "nothing");
  parent.progress("waiting");
  const { warmUp } = await import("../../compute/warm_up.ts");
  warmUp();
  parent.ready();
  return await waiting;
}

/** How long a new session has the machine for itself before another process is started. */
const AHEAD_AFTER_MS = 100;

/**
 * Prepares the removal of a compute whose branch was deleted. Whatever fails is left for the next
 * `zenith start`.
 */
async function removal(paths: ComputePaths, log: Logger): Promise<() => void> {
  const note = (error: unknown): void =>
    log.error(`what is left of a deleted branch could not be removed: ${errorMessage(error)}`);
  try {
    const { prepareRemoval } = await import("../../control/deleted_computes.ts");
    const remove = await prepareRemoval(paths);
    return () => {
      try {
        remove();
      } catch (error) {
        note(error);
      }
    };
  } catch (error) {
    note(error);
    return () => {};
  }
}

/** What a start, or the life before, has left in memory is given back once it is over. */
const COLLECT_AFTER_MS = 10_000;
/** A supervisor that has grown beyond this, its garbage included, is not used again. */
const MAX_RSS_BYTES = 512 << 20;
/** Bounds whatever a life may leave behind. */
const LIVES_MAX = 100;

function mayServeAgain(lives: number): boolean {
  return lives < LIVES_MAX && canBeSpare() && process.memoryUsage.rss() < MAX_RSS_BYTES;
}

/** @param onStopped called after a requested stop, while the directory is still claimed */
async function runSupervisor(
  options: OptionValues,
  parent: ParentChannel,
  onStopped: (paths: ComputePaths, log: Logger) => Promise<void>,
): Promise<number> {
  const dir = optionText(options, "dir");
  if (dir === undefined) throw new ZenithError("invalid_argument", "compute needs -D <dir>");
  const paths = new ComputePaths(dir);
  const lsn = optionText(options, "lsn");
  const readOnlyAt = lsn === undefined ? null : parseLsn(lsn);
  const primary = optionText(options, "follow");
  const { keepComputeRunning } = await import("../../compute/keep_running.ts");
  let collecting: NodeJS.Timeout | undefined;
  const spares = options["spareAhead"] === true ? optionText(options, "spares") : undefined;
  const ahead = spares === undefined ? undefined : supervisorsAhead(spares);
  let filling: NodeJS.Timeout | undefined;
  const endAhead = async (): Promise<void> => {
    clearTimeout(filling);
    await ahead?.end();
  };
  const exitCode = await runRole({
    name: "compute",
    pidFile: paths.pidFile,
    logFile: paths.log,
    parent,
    onStopped: async (log) => {
      // A spare collects when it has time for it.
      clearTimeout(collecting);
      // Whoever stops everything finds all that wait.
      await endAhead();
      await onStopped(paths, log);
      const cgroup = parseCgroup(options);
      if (cgroup !== undefined) removeCgroup(cgroup);
    },
    start: async ({ log, progress, signal }) => {
      const running = await keepComputeRunning({
        paths,
        tokenFile: optionText(options, "tokenFile"),
        caFile: optionText(options, "caFile") ?? "ca.pem",
        locatePostgres: (major) => locatePostgres(major, { distribDir: optionText(options, "pgDistribDir") }),
        storage: parseStorageChoice(optionText(options, "storage") ?? STORAGE_DEFAULT),
        overlayMaxBytes: parseOverlayMax(optionText(options, "overlayMaxMb")),
        cgroup: parseCgroup(options),
        prewarm: options["prewarm"] === true,
        readOnlyAt,
        follow: primary === undefined ? null : parseHostPort(primary),
        wishes: {
          keepSubscriptions: options["keepSubscriptions"] === true,
          keepCron: options["keepCron"] === true,
          sqlFile: optionText(options, "firstStartSql") ?? null,
          mask: parseMask(optionText(options, "mask")),
        },
        log,
        progress,
        signal,
      });
      collecting = setTimeout(collectGarbage, COLLECT_AFTER_MS).unref();
      filling = setTimeout(() => void ahead?.fill(), AHEAD_AFTER_MS).unref();
      return running;
    },
  });
  await endAhead();
  return exitCode;
}

/** @param text a line for each file */
function parseMask(text: string | undefined): MaskFile[] | null {
  return text === undefined ? null : text.split("\n").map(parseMaskFile);
}

function parseCgroup(options: OptionValues): CgroupLimits | undefined {
  const dir = optionText(options, "cgroup");
  if (dir === undefined) return undefined;
  const number = (name: string, flag: string): number | undefined => {
    const text = optionText(options, name);
    if (text === undefined) return undefined;
    if (/^\d{1,9}(?:\.\d{1,3})?$/.test(text) && Number(text) > 0) return Number(text);
    throw new ZenithError("invalid_argument", `${flag} is "${text}": expected a number above 0`);
  };
  const megabytes = number("memoryMaxMb", "--memory-max-mb");
  return {
    parent: dirname(dir),
    name: basename(dir),
    memoryMaxBytes: megabytes === undefined ? undefined : Math.ceil(megabytes * (1 << 20)),
    cpus: number("cpus", "--cpus"),
    processesMax: number("processesMax", "--processes-max"),
  };
}

function parseOverlayMax(megabytes: string | undefined): number {
  if (megabytes === undefined) return Infinity;
  if (!/^[1-9]\d{0,9}$/.test(megabytes)) {
    throw new ZenithError("invalid_argument", `--overlay-max-mb is "${megabytes}": expected a number of MB`);
  }
  return Number(megabytes) * (1 << 20);
}
