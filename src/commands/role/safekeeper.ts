/** `zenith safekeeper`: runs a safekeeper. */
import { existsSync } from "node:fs";
import { runRole } from "../../process/run_role.ts";
import { startDaemon } from "../../process/daemon.ts";
import { parseDuration } from "../../common/duration.ts";
import { ZenithError } from "../../common/errors.ts";
import { formatHostPort, parseHostPort } from "../../common/host_port.ts";
import { SafekeeperPaths } from "../../common/paths.ts";
import { type Command, optionText, type OptionValues } from "../cli/command.ts";
import { print } from "../cli/output.ts";
import type { ServerAddress } from "../../protocol/connect.ts";
import { AUTH_OPTIONS, openTrust, passOnAuth } from "./auth.ts";

const START_TIMEOUT_MS = 60_000;
const DEFAULT_LISTEN = "127.0.0.1:5454";

/** Runs the safekeeper role in this process or, with `--daemonize`, in the background. */
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
      flags: "--pageserver <host:port,…>",
      description: "The page server that is called when there is WAL for it; all that share tenants",
    },
    {
      flags: "--recall <duration>",
      description: "How often it is called while it does not come",
      default: "1s",
    },
    {
      flags: "--scrub-pause <duration>",
      description: "How long the check of data at rest rests after a pass",
    },
    { flags: "--scrub-rate <bytes>", description: "What that check reads per second" },
    { flags: "--no-sync", description: "Never wait for the disk: commits may be lost with the machine" },
    ...AUTH_OPTIONS,
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
    const scrubPause = optionText(options, "scrubPause");
    const scrubRate = optionText(options, "scrubRate");
    const role = {
      paths,
      listen,
      id,
      sync: options["sync"] === true,
      ...(recall === undefined ? {} : { recallIntervalMs: parseDuration(recall) }),
      ...(scrubPause === undefined ? {} : { scrubPauseMs: parseDuration(scrubPause) }),
      ...(scrubRate === undefined ? {} : { scrubBytesPerS: parseScrubRate(scrubRate) }),
    };
    if (options["daemonize"] === true) return await daemonize(paths, options);
    const { runSafekeeper } = await import("../../safekeeper/run_safekeeper.ts");
    return await runRole({
      name: "safekeeper",
      pidFile: paths.pidFile,
      logFile: optionText(options, "logFile"),
      start: async ({ log }) => {
        const { guard, auth, caFile } = await openTrust(options, paths, listen, log);
        const credentials = { tokenFile: auth.safekeeperToken(id), caFile };
        const called = pageserver === undefined
          ? {}
          : { pageserver: { ...parseServers(pageserver), credentials } };
        return await runSafekeeper({ ...role, ...called, logger: log, guard });
      },
    });
  },
};

function parseServers(text: string): ServerAddress {
  const [first, ...others] = text.split(",").map(parseHostPort);
  return { ...first!, others };
}

async function daemonize(paths: SafekeeperPaths, options: OptionValues): Promise<void> {
  const logFile = optionText(options, "logFile") ?? paths.log;
  const passedOn = {
    listen: "--listen",
    id: "--id",
    pageserver: "--pageserver",
    recall: "--recall",
    scrubPause: "--scrub-pause",
    scrubRate: "--scrub-rate",
  };
  const given = Object.entries(passedOn).flatMap(([name, flag]) => {
    const value = optionText(options, name);
    return value === undefined ? [] : [flag, value];
  });
  const sync = options["sync"] === true ? [] : ["--no-sync"];
  const { pid, address } = await startDaemon({
    args: [
      "safekeeper",
      "-D",
      paths.workdir,
      ...given,
      ...sync,
      ...passOnAuth(options),
      "--log-file",
      logFile,
    ],
    logFile,
    timeoutMs: START_TIMEOUT_MS,
  });
  const where = address === undefined ? optionText(options, "listen") : formatHostPort(address);
  print(`safekeeper started on ${where}, process ${pid}`);
}

function parseScrubRate(text: string): number {
  if (/^[1-9]\d{0,14}$/.test(text)) return Number(text);
  throw new ZenithError("invalid_argument", `--scrub-rate is "${text}": expected a number of bytes`);
}

function parseSafekeeperId(text: string): number {
  if (/^[1-9]\d{0,8}$/.test(text)) return Number(text);
  throw new ZenithError("invalid_argument", `"${text}" is not the number of a safekeeper: expected 1, 2, …`);
}
