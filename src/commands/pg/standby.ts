/** `zenith pg standby`: prints how to make a stock standby of a branch. */
import { formatHostPort } from "../../common/host_port.ts";
import { parseBranchName } from "../../common/id.ts";
import { quoteSetting } from "../../compute/postgres/postgres_conf.ts";
import { withPassword } from "../../compute/postgres/role_passwords.ts";
import { isUp } from "../../control/compute_places.ts";
import { type ComputeInfo, findCompute } from "../../control/computes.ts";
import {
  chooseTenant,
  type Environment,
  loadEnvironment,
  withAdminToken,
} from "../../control/environment.ts";
import {
  primaryConnInfo,
  STANDBY_CA_FILE,
  standbyAuthority,
  standbyBaseBackup,
  standbyToken,
} from "../../control/standby.ts";
import { createStandbySlot } from "../../control/standby_slots.ts";
import {
  type Command,
  JSON_OPTION,
  optionGib,
  optionText,
  type OptionValues,
  requiredArg,
  TENANT_OPTION,
} from "../cli/command.ts";
import { print, printJson } from "../cli/output.ts";
import { quoteForShell } from "../cli/shell.ts";

const DIRECTORY_DEFAULT = "standby";
const SLOT_DEFAULT = "standby";
/** Each safekeeper keeps that much, also those that the standby does not read from. */
const KEEP_DEFAULT_GIB = 4;

export const pgStandbyCommand: Command = {
  usage: "pg standby <branch>",
  description: "Print a script that makes a stock standby of a branch",
  options: [
    TENANT_OPTION,
    {
      flags: "-D, --dir <directory>",
      description: `The standby's new data directory; ./${DIRECTORY_DEFAULT}`,
    },
    {
      flags: "--slot <name>",
      description: "The name by which the safekeepers keep WAL for it: one for each standby",
      default: SLOT_DEFAULT,
      values: [],
    },
    {
      flags: "--keep-gib <n>",
      description: "How much WAL each safekeeper keeps at most while the standby is away",
      default: String(KEEP_DEFAULT_GIB),
      values: [],
    },
    JSON_OPTION,
  ],
  completions: ["compute"],
  examples: [
    ["pg standby main -D /srv/standby", "To read, or for sh on the standby's machine"],
    ["pg standby main --slot paris --keep-gib 50", "A second one, which may be away for long"],
  ],
  async run(args, options) {
    const environment = loadEnvironment();
    const tenant = chooseTenant(environment, optionText(options, "tenantid"));
    const compute = findCompute(environment, tenant, parseBranchName(requiredArg(args, 0)));
    const directory = optionText(options, "dir") ?? DIRECTORY_DEFAULT;
    const base = standbyBaseBackup(compute, directory);
    const slot = await keepWal(environment, compute, options);
    const conninfo = primaryConnInfo(compute, await standbyToken(environment, compute));
    const authority = standbyAuthority(environment, compute);
    if (options["json"] === true) {
      return printJson({
        tenant_id: tenant,
        branch: compute.branch,
        timeline_id: compute.identity.timeline,
        primary_conninfo: conninfo,
        primary_slot_name: slot,
        base_backup: base,
        password: withPassword(compute.paths).password,
        ca: authority,
      });
    }
    for (const line of script(compute, directory, base, conninfo, slot, authority)) print(line);
  },
};

/**
 * Makes the safekeepers keep WAL for the standby from now on, which is before its base is taken.
 *
 * @returns the name of its slot; null without safekeepers
 */
async function keepWal(
  environment: Environment,
  { tenant, identity: { timeline, walAcceptors } }: ComputeInfo,
  options: OptionValues,
): Promise<string | null> {
  if (walAcceptors.length === 0) return null;
  const slot = optionText(options, "slot") ?? SLOT_DEFAULT;
  const bytes = optionGib(options, "keepGib", "--keep-gib", KEEP_DEFAULT_GIB);
  const safekeepers = walAcceptors.map((address) => withAdminToken(environment, address));
  const problems = await createStandbySlot(safekeepers, { tenant, timeline }, slot, bytes);
  for (const problem of problems) {
    process.stderr.write(
      `zenith: ${problem}: it keeps no WAL for the standby until this command is repeated\n`,
    );
  }
  return slot;
}

function script(
  compute: ComputeInfo,
  directory: string,
  base: readonly string[],
  conninfo: string,
  slot: string | null,
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
    ...(slot === null ? [] : [`primary_slot_name = ${quoteSetting(slot)}`]),
    "END",
    ...(authority === null ? [] : [`cat > ${file(STANDBY_CA_FILE)} <<'END'`, authority.trimEnd(), "END"]),
    `touch ${file("standby.signal")}`,
  ];
}
