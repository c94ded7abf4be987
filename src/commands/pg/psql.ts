/** `zenith psql`: runs psql on a branch's Postgres. */
import { ZenithError } from "../../common/errors.ts";
import { findProgram } from "../../process/find_program.ts";
import { connectionEnvironment } from "../../compute/postgres/postgres_conf.ts";
import { withPassword } from "../../compute/postgres/role_passwords.ts";
import type { ComputeInfo } from "../../control/computes.ts";
import { chooseTenant, defaultBranch, type Environment, loadEnvironment } from "../../control/environment.ts";
import { findNamedCompute } from "../../control/moments.ts";
import { findPsql } from "../../pg_install/find_postgres.ts";
import { clientEnvironment } from "../../pg_install/client_environment.ts";
import { runProgram } from "../cli/program.ts";
import { type Command, optionText, TENANT_OPTION } from "../cli/command.ts";

export const psqlCommand: Command = {
  usage: "psql [branch]",
  description: "Connect to the Postgres of a branch, the default one when none is named",
  options: [TENANT_OPTION],
  rest: "<psql's arguments>",
  completions: ["compute"],
  examples: [
    ["psql", "A session on the branch main"],
    ['psql before -- -c "select count(*) from t"', "One statement on the branch before"],
    ["psql main@0/223C288", "A moment that `pg start` has made"],
    ["psql main -- -d shop -U alice", "Another database, as another user"],
  ],
  async run([name], options, rest) {
    const environment = loadEnvironment();
    const tenant = chooseTenant(environment, optionText(options, "tenantid"));
    const compute = await findNamedCompute(environment, tenant, name ?? defaultBranch(environment, tenant));
    if (compute.status !== "running") {
      throw new ZenithError("unavailable", `the Postgres of branch ${compute.name} is ${compute.status}`, {
        hint: `start it with "zenith pg start ${compute.name}"`,
      });
    }
    return await psql(environment, compute, rest);
  },
};

/**
 * Connects psql to a running compute. Connection settings are passed in the environment, so that
 * psql's own arguments override them.
 *
 * @returns psql's exit code
 */
export function psql(
  environment: Environment,
  compute: ComputeInfo,
  args: readonly string[],
): Promise<number> {
  const session = withPassword(compute.paths, { user: roleIn(args) });
  const env = clientEnvironment(connectionEnvironment(compute.address, session));
  return runProgram(psqlProgram(environment, compute), args, env);
}

/** Returns the role that psql's arguments name: `-U alice`, `-AtUalice`, `--username=alice`. */
function roleIn(args: readonly string[]): string | undefined {
  const at = args.findIndex((arg) => /^(?:-[A-Za-z]*U|--username\b)/.test(arg));
  if (at < 0) return undefined;
  return args[at].replace(/^(?:-[A-Za-z]*?U|--username=?)/, "") || args[at + 1];
}

/** Returns the psql on `$PATH`, else the one beside the Postgres that computes run. */
function psqlProgram(environment: Environment, compute: ComputeInfo): string {
  const onPath = findProgram("psql");
  if (onPath !== undefined) return onPath;
  const beside = findPsql({ distribDir: environment.config.pg_distrib_dir });
  if (beside !== undefined) return beside;
  throw new ZenithError("not_found", "there is no psql on this machine's PATH, nor beside any PostgreSQL", {
    hint: "install one (Debian: postgresql-client), or connect any client to what " +
      `"zenith uri ${compute.name}" prints`,
  });
}
