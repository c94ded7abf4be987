import { generateTenantId, parseTenantId } from "../common/id.ts";
import { loadEnvironment, pageServerAddress } from "../control/environment.ts";
import { PageServerClient } from "../control/page_server_client.ts";
import type { Command } from "./command.ts";
import { print, Progress } from "./output.ts";

export const tenantListCommand: Command = {
  usage: "tenant list",
  description: "List the tenants of the page server",
  async run() {
    await using client = new PageServerClient(pageServerAddress(loadEnvironment()));
    for (const tenant of await client.tenantList()) print(tenant);
  },
};

export const tenantCreateCommand: Command = {
  usage: "tenant create [id]",
  description: "Create a tenant with a main branch; prints its id",
  async run([id]) {
    const tenant = id === undefined ? generateTenantId() : parseTenantId(id);
    await using client = new PageServerClient(pageServerAddress(loadEnvironment()));
    using _progress = new Progress("creating the tenant");
    await client.tenantCreate(tenant);
    print(`tenant ${tenant} created`);
  },
};
