/** `zenith tenant move`: passes a tenant on to another page server. */
import { parseHostPort } from "../../common/host_port.ts";
import { ZenithError } from "../../common/errors.ts";
import { parseTenantId, type TenantId } from "../../common/id.ts";
import { remoteAddress } from "../../control/remotes.ts";
import { type Environment, loadEnvironment, pageServerAddress } from "../../control/environment.ts";
import { PageServerClient } from "../../control/page_server_client.ts";
import { type Command, requiredArg } from "../cli/command.ts";
import { print, Progress } from "../cli/output.ts";
import { detachTenant } from "./attach.ts";

export const tenantMoveCommand: Command = {
  usage: "tenant move <id> <page-server>",
  description: "Move a tenant to another page server that has the same object store",
  completions: ["tenant"],
  examples: [
    [
      "tenant move d70d3869a8c586d3eaf7029fe261620c 10.0.0.8:64000",
      "Of page servers that share tenants; its Postgres go on",
    ],
    ["tenant move d70d3869a8c586d3eaf7029fe261620c central", "To one that `remote add` has named"],
  ],
  async run(args) {
    const environment = loadEnvironment();
    const tenant = parseTenantId(requiredArg(args, 0));
    const to = requiredArg(args, 1);
    await using client = new PageServerClient(pageServerAddress(environment));
    using progress = new Progress("moving the tenant");
    if (to.includes(":")) await client.tenantMove(tenant, parseHostPort(to));
    else await moveToRemote(environment, client, tenant, to, progress);
    print(`tenant ${tenant} is at ${to}`);
  },
};

/** @throws {ZenithError} the page servers' own errors; the tenant is here again then */
async function moveToRemote(
  environment: Environment,
  client: PageServerClient,
  tenant: TenantId,
  name: string,
  progress: Progress,
): Promise<void> {
  await using there = new PageServerClient(remoteAddress(environment, name));
  const [ours, theirs] = [await client.objectStoreStatus(), await there.objectStoreStatus()];
  if (ours === null || ours.url !== theirs?.url) {
    const store = (status: typeof ours) => status?.url ?? "none";
    throw new ZenithError(
      "invalid_argument",
      `a tenant moves by an object store that both page servers have: here it is ${store(ours)}, ` +
        `at ${name} ${store(theirs)}`,
      { hint: `"zenith push <branch> ${name}" copies a branch without` },
    );
  }
  await detachTenant(environment, client, tenant, progress);
  progress.update(`attaching the tenant at ${name}`);
  try {
    await there.tenantAttach(tenant);
  } catch (error) {
    await client.tenantAttach(tenant);
    throw error;
  }
}
