/** `zenith pg standby`: prints how to make a stock standby of a branch. */
import { formatHostPort } from "../../common/host_port.ts";
import { parseBranchName } from "../../common/id.ts";
import { quoteSetting } from "../../compute/postgres/postgres_conf.ts";
import { withPassword } from "../../compute/postgres/role_passwords.ts";
import { type ComputeInfo, findCompute, isUp } from "../../control/computes.ts";
import { chooseTenant, loadEnvironment } from "../../control/environment.ts";
import {
  primaryConnInfo,
  STANDBY_CA_FILE,
  standbyAuthority,
  standbyBaseBackup,
  standbyToken,
} from "../../control/standby.ts";
import { type Command, JSON_OPTION, optionText, requiredArg, TENANT_OPTION } from "../cli/command.ts";
import { print, printJson } from "../cli/output.ts";
import { quoteForShell } from "../cli/shell.ts";

const DIRECTORY_DEFAULT = "standby";

export const pgStandbyCommand: Command = {
  usage: "pg standby <branch>",
  description: "Print a script that makes a stock standby of a branch",
  options: [
    TENANT_OPTION,
    {
      flags: "-D, --dir <directory>",
      description: `The standby's new data directory; ./${DIRECTORY_DEFAULT}`,
    },
    JSON_OPTION,
  ],
  completions: ["compute"],
  examples: [
    ["pg standby main -D /srv/standby", "To read, or for sh on the standby's machine"],
  ],
  async run(args, options) {
    const environment = loadEnvironment();
    const tenant = chooseTenant(environment, optionText(options, "tenantid"));
    const compute = findCompute(environment, tenant, parseBranchName(requiredArg(args, 0)));
    const directory = optionText(options, "dir") ?? DIRECTORY_DEFAULT;
    const base = standbyBaseBackup(compute, directory);
    const conninfo = primaryConnInfo(compute, await standbyToken(environment, compute));
    const authority = standbyAuthority(environment, compute);
    if (options["json"] === true) {
      return printJson({
        tenant_id: tenant,
        branch: compute.branch,
        timeline_id: compute.identity.timeline,
        primary_conninfo: conninfo,
        base_backup: base,
        password: withPassword(compute.paths).password,
        ca: authority,
      });
    }
    for (const line of script(compute, directory, base, conninfo, authority)) print(line);
  },
};

function script(
  compute: ComputeInfo,
  directory: string,
  base: readonly string[],
  conninfo: string,
  authority: string | null,
): string[] {
  const { identity: { walAcceptors }, name } = compute;
  const file = (name: string): string => quoteForShell(`${directory}/${name}`);
  return [
    `# A standby of branch ${name}. Run this as the user who is to run it, then start it like any Postgres.`,
    ...(isUp(compute)
      ? []
      : [`# The base comes from the branch's Postgres: "zenith pg start ${name}" first.`]),
    ...(walAcceptors.length > 0
      ? [
        `# It follows the safekeepers ${walAcceptors.map(formatHostPort).join(", ")}.`,
        '# The password below is a token to read this branch: keep it secret. "zenith token list" shows it.',
      ]
      : [
        "# There are no safekeepers: it follows the branch's Postgres, and may be ahead of the branch after a kill.",
      ]),
    `PGPASSWORD=${quoteForShell(withPassword(compute.paths).password!)} ${base.map(quoteForShell).join(" ")}`,
    `cat >> ${file("postgresql.auto.conf")} <<'END'`,
    `primary_conninfo = ${quoteSetting(conninfo)}`,
    "END",
    ...(authority === null ? [] : [`cat > ${file(STANDBY_CA_FILE)} <<'END'`, authority.trimEnd(), "END"]),
    `touch ${file("standby.signal")}`,
  ];
}
