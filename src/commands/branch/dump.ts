/** `zenith dump`: runs pg_dump on a branch, or on a moment of one. */
import { existsSync } from "node:fs";
import { parseBranchName } from "../../common/id.ts";
import { type BranchPoint, parseBranchPoint } from "../../common/moment.ts";
import { connectionEnvironment } from "../../compute/postgres/postgres_conf.ts";
import { withPassword } from "../../compute/postgres/role_passwords.ts";
import { type ComputeInfo, findCompute } from "../../control/computes.ts";
import { chooseTenant, loadEnvironment, pageServerAddress } from "../../control/environment.ts";
import { PageServerClient } from "../../control/page_server_client.ts";
import { findPgDump } from "../../pg_install/find_pg_dump.ts";
import { type Command, optionText, requiredArg, TENANT_OPTION } from "../cli/command.ts";
import { clientEnvironment } from "../../pg_install/client_environment.ts";
import { runProgram } from "../cli/program.ts";
import { arrivedPoint, lookAt, type Place } from "./throw_away.ts";

export const dumpCommand: Command = {
  usage: "dump <start>",
  description: "Dump a branch, or a moment of one, with the pg_dump of its major",
  options: [
    TENANT_OPTION,
    { flags: "-d, --db <database>", description: "The database; postgres when left out", values: [] },
    {
      flags: "-t, --table <pattern>",
      description: "Only tables of that name; may be given several times",
      values: [],
      multiple: true,
    },
    { flags: "-s, --schema-only", description: "No rows" },
    { flags: "-f, --file <path>", description: "Where to write it; standard output when left out" },
  ],
  rest: "<pg_dump's other arguments>",
  completions: ["branch"],
  examples: [
    ["dump main -f main.sql", "All of the database postgres, as it is now"],
    ["dump main@-1h -t orders -f orders.sql", "One table, as it was an hour ago"],
    ["dump dev --db shop -f shop.dump -- -Fc", "Another database, in pg_dump's own format"],
  ],
  async run(args, options, rest) {
    const environment = loadEnvironment();
    const tenant = chooseTenant(environment, optionText(options, "tenantid"));
    const start = requiredArg(args, 0);
    const database = optionText(options, "db") ?? "postgres";
    const file = optionText(options, "file");
    await using client = new PageServerClient(pageServerAddress(environment));
    const place = { environment, client, tenant };
    const major = await client.tenantMajor(tenant);
    const pgDump = findPgDump(major, { distribDir: environment.config.pg_distrib_dir });
    const words = [
      ...(optionText(options, "table")?.split("\n") ?? []).map((pattern) => `--table=${pattern}`),
      ...(options["schemaOnly"] === true ? ["--schema-only"] : []),
      ...(file === undefined ? [] : [`--file=${file}`]),
      ...rest,
    ];
    const dump = ({ address, paths }: ComputeInfo) => {
      const session = withPassword(paths, { database });
      return runProgram(pgDump, words, clientEnvironment(connectionEnvironment(address, session)));
    };
    const running = runningAt(place, parseBranchPoint(start));
    if (running !== undefined) return await dump(running);
    const point = await arrivedPoint(place, start);
    return await lookAt(place, "dump", [point], ([made]) => dump(made.compute));
  },
};

/**
 * Returns the branch's own Postgres if the point is the branch's end and that Postgres shows it.
 */
function runningAt({ environment, tenant }: Place, { name, moment }: BranchPoint): ComputeInfo | undefined {
  if (moment.kind !== "end") return undefined;
  const branch = parseBranchName(name);
  if (!existsSync(environment.paths.compute(tenant, branch).dir)) return undefined;
  const compute = findCompute(environment, tenant, branch);
  return compute.status === "running" && compute.readOnlyAt === null ? compute : undefined;
}
