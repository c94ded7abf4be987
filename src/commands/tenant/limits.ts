/** `zenith tenant limits`: shows and changes what a tenant may take. */
import { safeParse } from "valibot";
import { ZenithError } from "../../common/errors.ts";
import { parseTenantId } from "../../common/id.ts";
import { loadEnvironment, pageServerAddress } from "../../control/environment.ts";
import { PageServerClient } from "../../control/page_server_client.ts";
import { listSafekeepers, safekeeperLimits } from "../../control/safekeepers.ts";
import { LimitSchema, type TenantLimitsJson } from "../../protocol/management.ts";
import {
  LIMIT_NAMES,
  type LimitChanges,
  type LimitName,
  LIMITS,
  OPTION,
} from "../../protocol/tenant_limits.ts";
import { type Command, JSON_OPTION, optionText, type OptionValues, requiredArg } from "../cli/command.ts";
import { type Column, printList } from "../cli/output.ts";

const DESCRIPTIONS: Readonly<Record<LimitName, string>> = {
  connections: "To the page server, and to each safekeeper, with tokens of the tenant",
  requests: "Commands that run and page requests that wait, at once",
  branches: "All of its branches",
  computes: "Postgres that run, one for each branch",
  bytes: "On the page server's disk, and on each safekeeper's; beyond, its WAL comes in at 64 KiB per second",
  wal_bytes_per_s: "WAL that is taken in per second",
};

/** What a safekeeper has to do with. */
const OF_SAFEKEEPERS: readonly LimitName[] = ["connections", "requests", "bytes", "wal_bytes_per_s"];

export const tenantLimitsCommand: Command = {
  usage: "tenant limits <id>",
  description: "Show or change what a tenant may take: a number, none, or default",
  options: [
    ...LIMIT_NAMES.map((name) => ({
      flags: `--${OPTION[name]} <${name.startsWith("wal") || name === "bytes" ? "bytes" : "n"}>`,
      description: DESCRIPTIONS[name],
    })),
    JSON_OPTION,
  ],
  completions: ["tenant"],
  examples: [
    ["tenant limits d70d3869a8c586d3eaf7029fe261620c", "What it may take, and what it takes"],
    [
      "tenant limits d70d3869a8c586d3eaf7029fe261620c --branches 20 --bytes 50000000000",
      "At most 20 branches, and 50 GB",
    ],
    ["tenant limits d70d3869a8c586d3eaf7029fe261620c --branches default", "As many as other tenants"],
  ],
  async run(args, options) {
    const tenant = parseTenantId(requiredArg(args, 0));
    const changes = readChanges(options);
    const environment = loadEnvironment();
    await using client = new PageServerClient(pageServerAddress(environment));
    const lines = linesOf("page server", LIMIT_NAMES, await client.tenantLimits(tenant, changes));
    for (const { id, address } of listSafekeepers(environment)) {
      const limits = await safekeeperLimits(address, tenant, changes);
      lines.push(...linesOf(`safekeeper ${id}`, OF_SAFEKEEPERS, limits));
    }
    printList(lines, COLUMNS, ({ server, name, used, limit }) => ({ server, name, used, limit }), options);
  },
};

interface Line {
  readonly server: string;
  readonly name: LimitName;
  readonly used: number | null;
  readonly limit: number | null;
}

const COLUMNS: readonly Column<Line>[] = [
  { title: "SERVER", cell: ({ server }) => server },
  { title: "WHAT", cell: ({ name }) => LIMITS[name] },
  { title: "USED", cell: ({ used }) => used === null ? "-" : String(used) },
  { title: "LIMIT", cell: ({ limit }) => limit === null ? "none" : String(limit) },
];

function linesOf(server: string, names: readonly LimitName[], limits: TenantLimitsJson): Line[] {
  return names.map((name) => ({ server, name, ...limits[name] }));
}

function readChanges(options: OptionValues): LimitChanges {
  const changes: { [K in LimitName]?: number | "none" | "default" } = {};
  for (const name of LIMIT_NAMES) {
    const key = OPTION[name].replace(/-(.)/g, (_match, letter: string) => letter.toUpperCase());
    const text = optionText(options, key);
    if (text === undefined) continue;
    const parsed = safeParse(LimitSchema, text);
    if (!parsed.success) {
      const [{ message }] = parsed.issues;
      throw new ZenithError("invalid_argument", `--${OPTION[name]} is "${text}": ${message}`);
    }
    changes[name] = parsed.output;
  }
  return changes;
}
