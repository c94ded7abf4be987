/** `zenith sql`: runs statements on a branch, without psql. */
import { readFileSync } from "node:fs";
import { ioError, ZenithError } from "../../common/errors.ts";
import { findNamedCompute } from "../../control/moments.ts";
import { withPassword } from "../../compute/postgres/role_passwords.ts";
import { chooseTenant, defaultBranch, loadEnvironment } from "../../control/environment.ts";
import { type Command, JSON_OPTION, optionText, TENANT_OPTION } from "../cli/command.ts";
import { SESSION_OPTIONS, sessionOf } from "./uri.ts";

export const sqlCommand: Command = {
  usage: "sql [branch]",
  description: "Run statements on a branch, the default one when none is named; needs no psql",
  options: [
    TENANT_OPTION,
    ...SESSION_OPTIONS,
    {
      flags: "-c, --command <sql>",
      description: "The statements; all together are one transaction",
      values: [],
    },
    { flags: "-f, --file <path>", description: 'A file of statements; "-" is standard input' },
    {
      ...JSON_OPTION,
      description: "Print an array with one object per row; of several statements, the last",
    },
    { flags: "--csv", description: "Print the rows as CSV, with a line of column names" },
  ],
  completions: ["compute"],
  examples: [
    ['sql main -c "select count(*) from t"', "One statement, as a table"],
    ["sql dev -f schema.sql", "A file"],
    ['sql main --json -c "select * from t"', "Rows for a program"],
  ],
  async run([name], options) {
    const environment = loadEnvironment();
    const tenant = chooseTenant(environment, optionText(options, "tenantid"));
    const text = statements(optionText(options, "command"), optionText(options, "file"));
    const compute = await findNamedCompute(environment, tenant, name ?? defaultBranch(environment, tenant));
    if (compute.status !== "running") {
      throw new ZenithError("unavailable", `the Postgres of branch ${compute.name} is ${compute.status}`, {
        hint: `start it with "zenith pg start ${compute.name}"`,
      });
    }
    const { runSql } = await import("./run_sql.ts");
    const format = options["json"] === true ? "json" : options["csv"] === true ? "csv" : "table";
    return await runSql(compute.address, withPassword(compute.paths, sessionOf(options)), text, format);
  },
};

/** @throws {ZenithError} `invalid_argument`, `io` */
function statements(command: string | undefined, file: string | undefined): string {
  if ((command === undefined) === (file === undefined)) {
    throw new ZenithError("invalid_argument", "name the statements with -c, or a file of them with -f", {
      hint: '"zenith psql" is for a session',
    });
  }
  if (command !== undefined) return command;
  try {
    return readFileSync(file === "-" ? 0 : file!, "utf8");
  } catch (error) {
    throw ioError("read", file === "-" ? "standard input" : file!, error);
  }
}
