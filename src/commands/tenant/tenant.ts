import { ZenithError } from "../../common/errors.ts";
import { generateTenantId, parseTenantId } from "../../common/id.ts";
import { destroyCompute, listComputes } from "../../control/computes.ts";
import { loadEnvironment, pageServerAddress } from "../../control/environment.ts";
import { PageServerClient } from "../../control/page_server_client.ts";
import { deleteFromSafekeepers } from "../../control/safekeepers.ts";
import { type Command, JSON_OPTION, requiredArg } from "../cli/command.ts";
import { print, printJson, Progress } from "../cli/output.ts";
import { warnAboutSafekeeper } from "../safekeeper/prune.ts";

export const tenantListCommand: Command = {
  usage: "tenant list",
  description: "List the tenants of the page server",
  options: [JSON_OPTION],
  examples: [
    ["tenant list", "One id per line"],
  ],
  async run(_args, options) {
    const environment = loadEnvironment();
    await using client = new PageServerClient(pageServerAddress(environment));
    const tenants = await client.tenantList();
    if (options["json"] === true) {
      printJson(tenants.map((tenant) => ({
        tenant_id: tenant,
        default: tenant === environment.config.default_tenant_id,
      })));
    } else {
      // Bare ids, so that a shell can loop over them.
      for (const tenant of tenants) print(tenant);
    }
  },
};

export const tenantCreateCommand: Command = {
  usage: "tenant create [id]",
  description: "Create a tenant with a main branch; prints its id",
  examples: [
    ["tenant create", "With an id of Zenith's choice"],
  ],
  async run([id]) {
    const tenant = id === undefined ? generateTenantId() : parseTenantId(id);
    await using client = new PageServerClient(pageServerAddress(loadEnvironment()));
    using _progress = new Progress("creating the tenant");
    await client.tenantCreate(tenant);
    print(`tenant ${tenant} created`);
  },
};

export const tenantDeleteCommand: Command = {
  usage: "tenant delete <id>",
  description: "Delete a tenant with all its branches, when no Postgres of it runs",
  completions: ["tenant"],
  examples: [
    ["tenant delete d70d3869a8c586d3eaf7029fe261620c", "There is no way back"],
  ],
  async run(args) {
    const environment = loadEnvironment();
    const tenant = parseTenantId(requiredArg(args, 0));
    const computes = listComputes(environment, tenant);
    const running = computes.filter((compute) => compute.status === "running").map((compute) =>
      compute.branch
    );
    if (running.length > 0) {
      throw new ZenithError("conflict", `a Postgres runs on ${running.join(", ")} of tenant ${tenant}`, {
        hint: `stop it with "zenith pg stop ${running[0]} --tenantid ${tenant}"`,
      });
    }
    await using client = new PageServerClient(pageServerAddress(environment));
    using _progress = new Progress("deleting the tenant");
    const all = [...await client.branchList(tenant), ...await client.branchDamaged(tenant)];
    const timelines = all.flatMap(({ timeline_id: timeline }) =>
      timeline === null ? [] : [{ tenant, timeline }]
    );
    await client.tenantDelete(tenant);
    for (const compute of computes) destroyCompute(compute);
    print(`tenant ${tenant} deleted`);
    for (const problem of await deleteFromSafekeepers(environment, timelines)) warnAboutSafekeeper(problem);
  },
};
