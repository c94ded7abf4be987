/** `zenith tenant recover`: puts a tenant back to what the object store had of it at a time. */
import { ZenithError } from "../../common/errors.ts";
import { parseTenantId, type TenantId } from "../../common/id.ts";
import { formatLsn } from "../../common/lsn.ts";
import { parseMoment } from "../../common/moment.ts";
import { type Environment, loadEnvironment, pageServerAddress } from "../../control/environment.ts";
import { PageServerClient, type TenantAsOf } from "../../control/page_server_client.ts";
import { stoppedComputes } from "../../control/tenant_computes.ts";
import { confirmOnTerminal, YES_OPTION } from "../cli/ask.ts";
import { type Command, JSON_OPTION, optionText, requiredArg } from "../cli/command.ts";
import { formatTable, print, printJson, Progress } from "../cli/output.ts";
import { detachTenant, ownTimelines } from "./attach.ts";

const EXAMPLE_ID = "d70d3869a8c586d3eaf7029fe261620c";

export const tenantRecoverCommand: Command = {
  usage: "tenant recover <id>",
  description: "Put a whole tenant back to what the object store had of it at a time",
  options: [
    { flags: "--at <time>", description: "As 10m ago, yesterday 14:00, or 2026-11-30T14:55:00Z" },
    { flags: "--dry-run", description: "Only show what it was then, and what would go" },
    YES_OPTION,
    JSON_OPTION,
  ],
  completions: ["tenant"],
  examples: [
    [`tenant recover ${EXAMPLE_ID} --at "10m ago" --dry-run`, "The branches that it had then"],
    [
      `tenant recover ${EXAMPLE_ID} --at 2026-11-30T14:55:00Z`,
      "All branches as they were, deleted ones too; what came later is given up",
    ],
  ],
  async run(args, options) {
    const environment = loadEnvironment();
    const tenant = parseTenantId(requiredArg(args, 0));
    const at = parseTime(optionText(options, "at"));
    await using client = new PageServerClient(pageServerAddress(environment));
    // This fails before anything is touched if it isn't all there any more.
    const then = await client.tenantAsOf(tenant, at);
    const isHere = (await client.tenantList()).includes(tenant);
    const branches = compare(then, isHere ? await branchesNow(client, tenant) : new Map());
    if (options["dryRun"] === true) {
      if (options["json"] === true) {
        return printJson({ tenant_id: tenant, newest_at: then.newest_at, branches });
      }
      print(`tenant ${tenant} as of ${then.newest_at}:`);
      for (const line of formatTable(tableOf(branches))) print(line);
      return;
    }
    if (isHere) stoppedComputes(environment, tenant);
    const going = branches.filter(({ then_lsn }) => then_lsn === null).map(({ name }) => name);
    await confirmOnTerminal(
      `Give up everything in tenant ${tenant} since ${then.newest_at}` +
        `${going.length === 0 ? "" : `, and the branches ${going.join(", ")}`}?`,
      options,
    );
    using progress = new Progress("uploading what is left");
    // Safekeepers and computes have what came later, so the tenant leaves them.
    if (isHere) await detachTenant(environment, client, tenant, progress);
    progress.update("fetching the tenant");
    const attached = await assertNotAtSafekeepers(environment, tenant)
      .then(() => client.tenantAttach(tenant, at))
      .catch(async (error: unknown) => {
        if (isHere) await client.tenantAttach(tenant);
        throw error;
      });
    if (options["json"] === true) return printJson({ tenant_id: tenant, ...attached, branches });
    print(`tenant ${tenant} is as it was at ${attached.newest_at}`);
    if (isHere) print('make its Postgres anew with "zenith pg start"');
  },
};

/** A start goes on from the longest log, and would bring back what is given up. */
async function assertNotAtSafekeepers(environment: Environment, tenant: TenantId): Promise<void> {
  const left = await ownTimelines(environment, tenant, false);
  if (left.length === 0) return;
  throw new ZenithError("conflict", `safekeepers still have WAL of tenant ${tenant}`, {
    hint: `"zenith tenant attach ${tenant}" first: the store gets what they have; then recover it`,
  });
}

/** Returns microseconds since 2000. */
function parseTime(text: string | undefined): number {
  const hint = 'for one branch, "zenith branch restore" does it, and loses nothing';
  if (text === undefined) {
    throw new ZenithError("invalid_argument", "--at is missing: the time to go back to", { hint });
  }
  const moment = parseMoment(text);
  if (moment.kind === "time") return moment.timestamp;
  throw new ZenithError("invalid_argument", `--at takes a point in time, found "${text}"`, { hint });
}

async function branchesNow(client: PageServerClient, tenant: TenantId): Promise<Map<string, string>> {
  const found = await client.branchList(tenant);
  return new Map(found.map(({ name, latest_valid_lsn }) => [name, formatLsn(latest_valid_lsn)]));
}

interface Compared {
  readonly name: string;
  /** Where it ended then. Null when there was none. */
  readonly then_lsn: string | null;
  /** Where it ends now. Null when there is none. */
  readonly now_lsn: string | null;
}

function compare({ branches }: TenantAsOf, now: ReadonlyMap<string, string>): Compared[] {
  const then = new Map(branches.map(({ name, end_lsn }) => [name, formatLsn(end_lsn)]));
  return [...new Set([...then.keys(), ...now.keys()])].sort().map((name) => ({
    name,
    then_lsn: then.get(name) ?? null,
    now_lsn: now.get(name) ?? null,
  }));
}

function tableOf(branches: readonly Compared[]): string[][] {
  return [
    ["BRANCH", "THEN", "NOW"],
    ...branches.map(({ name, then_lsn, now_lsn }) => [
      name,
      then_lsn ?? "was not there",
      now_lsn ?? "is not there",
    ]),
  ];
}
