/** `zenith pageserver`: runs a page server. */
import { existsSync } from "node:fs";
import { safeParse } from "valibot";
import { runRole } from "../../process/run_role.ts";
import { startDaemon } from "../../process/daemon.ts";
import { ZenithError } from "../../common/errors.ts";
import { formatHostPort, parseHostPort } from "../../common/host_port.ts";
import { type PageServerConfig, PageServerConfigSchema } from "../../common/page_server_config.ts";
import { PageServerPaths } from "../../common/paths.ts";
import { readTomlFile } from "../../common/toml.ts";
import { type Command, optionText, type OptionValues } from "../cli/command.ts";
import { print } from "../cli/output.ts";
import { AUTH_OPTIONS, openTrust, passOnAuth } from "./auth.ts";

const START_TIMEOUT_MS = 300_000;

/** Runs the page server role in this process or, with `--daemonize`, in the background. */
export const pageserverCommand: Command = {
  usage: "pageserver",
  description: "Run a page server, as systemd would",
  options: [
    { flags: "-D, --dir <dir>", description: "Its working directory", default: "." },
    { flags: "-l, --listen <host:port>", description: "Where it listens; port 0 takes a free one" },
    {
      flags: "--pg-distrib-dir <dir>",
      description:
        "The PostgreSQL whose initdb makes new tenants: an installation, or a directory for each major",
    },
    ...AUTH_OPTIONS,
    { flags: "--log-file <file>", description: "Where it logs; standard error when left out" },
    { flags: "--daemonize", description: "Run in the background; log to pageserver.log" },
  ],
  examples: [
    ["pageserver -D /var/lib/zenith -l 10.0.0.9:64000", "In the foreground, its log on standard error"],
  ],
  async run(_args, options) {
    const paths = new PageServerPaths(optionText(options, "dir") ?? ".");
    if (!existsSync(paths.workdir)) {
      throw new ZenithError("not_found", `${paths.workdir} does not exist`, {
        hint: "make the directory first; everything the page server keeps goes there",
      });
    }
    const config = readConfig(paths, options);
    if (options["daemonize"] === true) return await daemonize(paths, config, options);
    const { runPageServer } = await import("../../pageserver/service/run_page_server.ts");
    return await runRole({
      name: "pageserver",
      pidFile: paths.pidFile,
      logFile: optionText(options, "logFile"),
      logLevel: config.log_level,
      start: async ({ log }) => {
        const listen = parseHostPort(config.listen);
        const { guard, auth, caFile } = await openTrust(options, paths, listen, log);
        const credentials = { tokenFile: auth.pageserverToken, caFile };
        return await runPageServer({ paths, config, listen, logger: log, guard, credentials });
      },
    });
  },
};

/** Reads `pageserver.toml`, if there is one. Options of the command line override it. */
function readConfig(paths: PageServerPaths, options: OptionValues): PageServerConfig {
  const fromFile = existsSync(paths.config) ? readTomlFile(paths.config, PageServerConfigSchema) : {};
  const listen = optionText(options, "listen");
  const distribDir = optionText(options, "pgDistribDir");
  const result = safeParse(PageServerConfigSchema, {
    ...fromFile,
    ...(listen === undefined ? {} : { listen }),
    ...(distribDir === undefined ? {} : { pg_distrib_dir: distribDir }),
  });
  if (!result.success) {
    throw new ZenithError("invalid_argument", `--listen: ${result.issues[0].message}, found "${listen}"`);
  }
  return result.output;
}

async function daemonize(
  paths: PageServerPaths,
  config: PageServerConfig,
  options: OptionValues,
): Promise<void> {
  const logFile = optionText(options, "logFile") ?? paths.log;
  const { pid, address } = await startDaemon({
    args: [
      "pageserver",
      "-D",
      paths.workdir,
      "-l",
      config.listen,
      ...(config.pg_distrib_dir === undefined ? [] : ["--pg-distrib-dir", config.pg_distrib_dir]),
      ...passOnAuth(options),
      "--log-file",
      logFile,
    ],
    logFile,
    timeoutMs: START_TIMEOUT_MS,
  });
  print(
    `page server started on ${
      address === undefined ? config.listen : formatHostPort(address)
    }, process ${pid}`,
  );
}
