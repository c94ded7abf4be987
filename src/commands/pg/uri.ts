/** `zenith uri`: prints how clients connect to a branch's Postgres. */
import { connectionEnvironment, connectionUri, type Session } from "../../compute/postgres/postgres_conf.ts";
import { withPassword } from "../../compute/postgres/role_passwords.ts";
import { findNamedCompute } from "../../control/moments.ts";
import { chooseTenant, defaultBranch, loadEnvironment } from "../../control/environment.ts";
import {
  type Command,
  type CommandOption,
  JSON_OPTION,
  optionText,
  type OptionValues,
  TENANT_OPTION,
} from "../cli/command.ts";
import { print, printJson } from "../cli/output.ts";
import { quoteForShell } from "../cli/shell.ts";

/** The role and the database of a session. */
export const SESSION_OPTIONS: readonly CommandOption[] = [
  { flags: "-d, --db <database>", description: "The database; postgres when left out", values: [] },
  {
    flags: "-U, --role <role>",
    description: "The role; zenith_admin, the superuser, when left out",
    values: [],
  },
];

export function sessionOf(options: OptionValues): Session {
  return { user: optionText(options, "role"), database: optionText(options, "db") };
}

export const uriCommand: Command = {
  usage: "uri [branch]",
  description: "Print the connection string of a branch, with its password",
  options: [
    TENANT_OPTION,
    ...SESSION_OPTIONS,
    { flags: "--env", description: "As lines for a shell: export DATABASE_URL and libpq's variables" },
    JSON_OPTION,
  ],
  completions: ["compute"],
  examples: [
    ["uri", 'For main: psql "$(zenith uri)"'],
    ["uri dev --db shop --role alice", "Another database, as another user"],
    ["uri dev --env", 'For programs: eval "$(zenith uri dev --env)"'],
  ],
  async run([name], options) {
    const environment = loadEnvironment();
    const tenant = chooseTenant(environment, optionText(options, "tenantid"));
    const { address, paths } = await findNamedCompute(
      environment,
      tenant,
      name ?? defaultBranch(environment, tenant),
    );
    const session = withPassword(paths, sessionOf(options));
    const uri = connectionUri(address, session);
    const variables = { DATABASE_URL: uri, ...connectionEnvironment(address, session) };
    if (options["json"] === true) printJson(variables);
    else if (options["env"] !== true) print(uri);
    else {
      for (const [name, value] of Object.entries(variables)) print(`export ${name}=${quoteForShell(value)}`);
    }
  },
};
