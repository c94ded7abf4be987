/** `zenith tenant`: creates, lists and deletes tenants. */
import { generateTenantId, parseTenantId, type TenantId } from "../../common/id.ts";
import { loadEnvironment, pageServerAddress } from "../../control/environment.ts";
import { PageServerClient } from "../../control/page_server_client.ts";
import { removeComputes, stoppedComputes } from "../../control/tenant_computes.ts";
import { deleteFromSafekeepers } from "../../control/safekeepers.ts";
import { confirmOnTerminal, YES_OPTION } from "../cli/ask.ts";
import {
  CLUSTER_OPTIONS,
  type Command,
  JSON_OPTION,
  optionCluster,
  optionPgVersion,
  PG_VERSION_OPTION,
  requiredArg,
} from "../cli/command.ts";
import { type Column, print, printJson, printList, Progress } from "../cli/output.ts";
import { warnAboutSafekeeper } from "../safekeeper/prune.ts";

export const tenantListCommand: Command = {
  usage: "tenant list",
  description: "List the tenants of the page server",
  options: [{ flags: "-l, --long", description: "With the major of each one's PostgreSQL" }, JSON_OPTION],
  examples: [
    ["tenant list", "One id per line"],
    ["tenant list --long", "With the major of each one's PostgreSQL"],
  ],
  async run(_args, options) {
    const environment = loadEnvironment();
    await using client = new PageServerClient(pageServerAddress(environment));
    const tenants = await client.tenantList();
    if (options["json"] !== true && options["long"] !== true) {
      // Bare ids, so that a shell can loop over them.
      for (const tenant of tenants) print(tenant);
      return;
    }
    const isShared = (client.address.others ?? []).length > 0;
    const places = new Map(
      (isShared ? await client.placeList() : []).map(({ tenant_id, server }) => [tenant_id, server]),
    );
    const listed: ListedTenant[] = [];
    for (const tenant of tenants) {
      const isDefault = tenant === environment.config.default_tenant_id;
      const place = places.get(tenant);
      listed.push({ tenant, isDefault, major: await client.tenantMajor(tenant), place });
    }
    const columns = places.size === 0 ? COLUMNS : [...COLUMNS, PLACE_COLUMN];
    printList(listed, columns, tenantJson, options);
  },
};

interface ListedTenant {
  readonly tenant: TenantId;
  readonly isDefault: boolean;
  readonly major: number;
  /** Where it is, when several page servers share tenants. */
  readonly place: string | undefined;
}

const PLACE_COLUMN: Column<ListedTenant> = { title: "PAGE SERVER", cell: ({ place }) => place ?? "" };

const COLUMNS: readonly Column<ListedTenant>[] = [
  { title: "TENANT", cell: ({ tenant }) => tenant },
  { title: "POSTGRESQL", cell: ({ major }) => String(major) },
  { title: "DEFAULT", cell: ({ isDefault }) => isDefault ? "yes" : "" },
];

function tenantJson({ tenant, isDefault, major, place }: ListedTenant): Record<string, unknown> {
  const page_server = place === undefined ? {} : { page_server: place };
  return { tenant_id: tenant, default: isDefault, pg_version: major, ...page_server };
}

export const tenantCreateCommand: Command = {
  usage: "tenant create [id]",
  description: "Create a tenant with a main branch; prints its id",
  options: [PG_VERSION_OPTION, ...CLUSTER_OPTIONS, JSON_OPTION],
  examples: [
    ["tenant create", "With an id of Zenith's choice, and the newest PostgreSQL that the page server finds"],
    ["tenant create --pg-version 15", "All its branches run PostgreSQL 15"],
    ["tenant create --icu-locale de --data-checksums", "Text in the German order, pages with checksums"],
  ],
  async run([id], options) {
    const major = optionPgVersion(options);
    const tenant = id === undefined ? generateTenantId() : parseTenantId(id);
    await using client = new PageServerClient(pageServerAddress(loadEnvironment()));
    {
      using _progress = new Progress("creating the tenant");
      await client.tenantCreate(tenant, major, optionCluster(options));
    }
    const made = await client.tenantMajor(tenant);
    if (options["json"] === true) printJson({ tenant_id: tenant, pg_version: made });
    // Scripts need the bare id: tenant=$(zenith tenant create)
    else print(process.stdout.isTTY ? `tenant ${tenant} created, PostgreSQL ${made}` : tenant);
  },
};

export const tenantDeleteCommand: Command = {
  usage: "tenant delete <id>",
  description: "Delete a tenant with all its branches, when no Postgres of it runs",
  options: [YES_OPTION],
  completions: ["tenant"],
  examples: [
    ["tenant delete d70d3869a8c586d3eaf7029fe261620c", "There is no way back"],
  ],
  async run(args, options) {
    const environment = loadEnvironment();
    const tenant = parseTenantId(requiredArg(args, 0));
    const computes = stoppedComputes(environment, tenant);
    await using client = new PageServerClient(pageServerAddress(environment));
    const all = [...await client.branchList(tenant), ...await client.branchDamaged(tenant)];
    const timelines = all.flatMap(({ timeline_id: timeline }) =>
      timeline === null ? [] : [{ tenant, timeline }]
    );
    const names = all.map(({ name }) => name).join(", ");
    await confirmOnTerminal(`Delete tenant ${tenant} with its branches (${names})?`, options);
    using _progress = new Progress("deleting the tenant");
    await client.tenantDelete(tenant);
    await removeComputes(environment, tenant, computes);
    print(`tenant ${tenant} deleted`);
    for (const problem of await deleteFromSafekeepers(environment, timelines, tenant)) {
      warnAboutSafekeeper(problem);
    }
  },
};
