/** `zenith pg standby`: prints how to make a stock standby of a branch, and manages their slots. */
import { formatHostPort } from "../../common/host_port.ts";
import { parseBranchName } from "../../common/id.ts";
import { quoteSetting } from "../../compute/postgres/postgres_conf.ts";
import { withPassword } from "../../compute/postgres/role_passwords.ts";
import { ZenithError } from "../../common/errors.ts";
import { formatLsn } from "../../common/lsn.ts";
import { isUp } from "../../control/compute_places.ts";
import { type ComputeInfo, findCompute } from "../../control/computes.ts";
import {
  chooseTenant,
  type Environment,
  loadEnvironment,
  pageServerAddress,
  withAdminToken,
} from "../../control/environment.ts";
import { PageServerClient } from "../../control/page_server_client.ts";
import { listSafekeepers, safekeeperStatus } from "../../control/safekeepers.ts";
import {
  primaryConnInfo,
  STANDBY_CA_FILE,
  standbyAuthority,
  standbyBaseBackup,
  standbyToken,
} from "../../control/standby.ts";
import {
  combineStandbySlots,
  createStandbySlot,
  dropStandbySlot,
  type StandbySlotStatus,
} from "../../control/standby_slots.ts";
import {
  type Command,
  JSON_OPTION,
  optionText,
  type OptionValues,
  requiredArg,
  TENANT_OPTION,
} from "../cli/command.ts";
import { type Column, formatBytes, print, printJson, printList } from "../cli/output.ts";
import { quoteForShell } from "../cli/shell.ts";

const DIRECTORY_DEFAULT = "standby";
const SLOT_DEFAULT = "standby";
/** Each safekeeper keeps that much, also those that the standby does not read from. */
const KEEP_DEFAULT_GIB = 4;
const BYTES_PER_GIB = 1 << 30;

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
  const gib = optionText(options, "keepGib") ?? String(KEEP_DEFAULT_GIB);
  if (!/^[1-9]\d{0,5}$/.test(gib)) {
    throw new ZenithError("invalid_argument", `--keep-gib is "${gib}": expected a number of GiB`);
  }
  const safekeepers = walAcceptors.map((address) => withAdminToken(environment, address));
  const bytes = Number(gib) * BYTES_PER_GIB;
  const problems = await createStandbySlot(safekeepers, { tenant, timeline }, slot, bytes);
  for (const problem of problems) {
    process.stderr.write(
      `zenith: ${problem}: it keeps no WAL for the standby until this command is repeated\n`,
    );
  }
  return slot;
}

export const standbyListCommand: Command = {
  usage: "standby list",
  description: "List the standbys for which the safekeepers keep WAL",
  options: [JSON_OPTION],
  examples: [["standby list", "How far each is behind, and how far it may be"]],
  async run(_args, options) {
    const environment = loadEnvironment();
    const timelines = await Promise.all(
      listSafekeepers(environment).map(({ address }) => safekeeperStatus(address)),
    );
    const slots = combineStandbySlots(timelines.flat());
    await using client = new PageServerClient(pageServerAddress(environment));
    const names = new Map<string, string>();
    for (const tenant of new Set(slots.map(({ tenant }) => tenant))) {
      for (const { name, timeline_id } of await client.branchList(tenant)) names.set(timeline_id, name);
    }
    const listed = slots.map((slot) => ({ ...slot, branch: names.get(slot.timeline) ?? null }));
    printList(listed, COLUMNS, listedJson, options);
  },
};

interface ListedSlot extends StandbySlotStatus {
  /** Null when its timeline has no name. */
  readonly branch: string | null;
}

const COLUMNS: readonly Column<ListedSlot>[] = [
  { title: "BRANCH", cell: ({ branch, timeline }) => branch ?? timeline },
  { title: "SLOT", cell: ({ name }) => name },
  { title: "LSN", cell: ({ restartLsn }) => formatLsn(restartLsn) },
  { title: "BEHIND", cell: ({ behindBytes }) => formatBytes(behindBytes) },
  { title: "LIMIT", cell: ({ maxBytes }) => formatBytes(maxBytes) },
  { title: "STATUS", cell: ({ isLost, active }) => isLost ? "lost" : active ? "streaming" : "away" },
];

function listedJson(slot: ListedSlot): Record<string, unknown> {
  return {
    tenant_id: slot.tenant,
    branch: slot.branch,
    timeline_id: slot.timeline,
    slot: slot.name,
    restart_lsn: formatLsn(slot.restartLsn),
    behind_bytes: slot.behindBytes,
    max_bytes: slot.maxBytes,
    active: slot.active,
    lost: slot.isLost,
  };
}

export const standbyDropCommand: Command = {
  usage: "standby drop <branch> <slot>",
  description: "Keep no more WAL for a standby",
  options: [TENANT_OPTION],
  completions: ["branch"],
  examples: [["standby drop main paris", "When that standby is gone, or was promoted"]],
  async run(args, options) {
    const environment = loadEnvironment();
    const tenant = chooseTenant(environment, optionText(options, "tenantid"));
    const branch = parseBranchName(requiredArg(args, 0));
    const slot = requiredArg(args, 1);
    await using client = new PageServerClient(pageServerAddress(environment));
    const { timeline_id: timeline } = await client.branch(tenant, branch);
    const safekeepers = listSafekeepers(environment).map(({ address }) => address);
    const problems = await dropStandbySlot(safekeepers, { tenant, timeline }, slot);
    for (const problem of problems) process.stderr.write(`zenith: ${problem}\n`);
    print(`standby slot ${slot} of branch ${branch} dropped`);
    return problems.length === 0 ? 0 : 1;
  },
};

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
