/** `zenith serve`: runs an environment in one process, with its API and its Postgres port. */
import { ZenithError } from "../../common/errors.ts";
import { formatHostPort, parseHostPort } from "../../common/host_port.ts";
import { parseDuration } from "../../common/duration.ts";
import { environmentRoot, loadEnvironment } from "../../control/environment.ts";
import { runRole } from "../../process/run_role.ts";
import { type Command, optionText, type OptionValues } from "../cli/command.ts";
import { print } from "../cli/output.ts";

const HTTP_DEFAULT = "127.0.0.1:8432";
const POSTGRES_DEFAULT = "127.0.0.1:6432";
const DOMAIN_DEFAULT = "db.localhost";
const SUSPEND_DEFAULT = "5m";
const CONNECTIONS_DEFAULT = "10000";
const POOL_SIZE_DEFAULT = "50";

const DOMAIN = /^[a-z0-9-]{1,63}(\.[a-z0-9-]{1,63}){1,10}$/;

export const serveCommand: Command = {
  usage: "serve",
  description: "Run it all in one process, with an HTTP API and a port that wakes databases",
  options: [
    { flags: "--http <host:port>", description: "Where the API listens", default: HTTP_DEFAULT },
    {
      flags: "--postgres <host:port>",
      description: "Where clients of Postgres connect",
      default: POSTGRES_DEFAULT,
    },
    {
      flags: "--domain <name>",
      description: "Below it, each branch has a host name",
      default: DOMAIN_DEFAULT,
    },
    {
      flags: "--suspend-after <time>",
      description: "How long a Postgres may be idle before it sleeps; 0s for ever",
      default: SUSPEND_DEFAULT,
    },
    {
      flags: "--max-connections <number>",
      description: "How many clients there may be at once",
      default: CONNECTIONS_DEFAULT,
    },
    {
      flags: "--pool-size <number>",
      description: "How many sessions of a role and a database the clients of a -pooler host share",
      default: POOL_SIZE_DEFAULT,
    },
    { flags: "--log-file <file>", description: "Where it logs; standard error when left out" },
  ],
  examples: [
    ["serve", "On this machine alone"],
    [
      "serve --http 0.0.0.0:443 --postgres 0.0.0.0:5432 --domain db.example.org",
      "For others, with TLS and tokens",
    ],
  ],
  async run(_args, options) {
    const root = environmentRoot();
    const { paths, config } = loadEnvironment(root);
    const domain = optionText(options, "domain")!.toLowerCase();
    if (!DOMAIN.test(domain)) {
      throw new ZenithError(
        "invalid_argument",
        `--domain is "${domain}": expected a name such as db.example.org`,
      );
    }
    const maxConnections = positive(options, "maxConnections", "--max-connections");
    const poolSize = positive(options, "poolSize", "--pool-size");
    const http = parseHostPort(optionText(options, "http")!);
    const postgres = parseHostPort(optionText(options, "postgres")!);
    const suspendAfterMs = parseDuration(optionText(options, "suspendAfter")!);
    const { startServe } = await import("../../serve/serve.ts");
    return await runRole({
      name: "serve",
      pidFile: paths.servePidFile,
      logFile: optionText(options, "logFile"),
      start: async (context) => {
        const running = await startServe(
          { root, http, postgres, domain, suspendAfterMs, maxConnections, poolSize },
          context,
        );
        print(`serving Postgres on ${formatHostPort(running.address!)}, below ${domain}`);
        print(`the console is ${running.url}/console`);
        if (config.insecure !== true) {
          print('log in there with a token: "zenith token create me --scope admin" makes one');
        }
        return running;
      },
    });
  },
};

/** @throws {ZenithError} `invalid_argument` */
function positive(options: OptionValues, name: string, flag: string): number {
  const value = Number(optionText(options, name));
  if (Number.isInteger(value) && value > 0) return value;
  throw new ZenithError("invalid_argument", `${flag} is not a positive number`);
}
