/** `zenith tenant attach` and `detach`: move a tenant by the page servers' object store. */
import { ZenithError } from "../../common/errors.ts";
import { parseTenantId, type TenantId } from "../../common/id.ts";
import { sleep } from "../../common/sleep.ts";
import { type Environment, loadEnvironment, pageServerAddress } from "../../control/environment.ts";
import { PageServerClient } from "../../control/page_server_client.ts";
import { removeComputes, stoppedComputes } from "../../control/tenant_computes.ts";
import {
  deleteFromSafekeepers,
  listSafekeepers,
  safekeeperStatus,
  type SafekeeperTimelineStatus,
} from "../../control/safekeepers.ts";
import { type Command, JSON_OPTION, requiredArg } from "../cli/command.ts";
import { formatBytes, print, printJson, Progress } from "../cli/output.ts";
import { warnAboutSafekeeper } from "../safekeeper/prune.ts";

const EXAMPLE_ID = "d70d3869a8c586d3eaf7029fe261620c";

/** How long what safekeepers have may take to be uploaded. */
const UPLOAD_TIMEOUT_MS = 60_000;
const POLL_MS = 200;

export const tenantAttachCommand: Command = {
  usage: "tenant attach <id>",
  description: "Take a tenant over that the page server's object store has",
  options: [JSON_OPTION],
  examples: [[`tenant attach ${EXAMPLE_ID}`, "Whoever had it before refuses it from then on"]],
  async run(args, options) {
    const tenant = parseTenantId(requiredArg(args, 0));
    await using client = new PageServerClient(pageServerAddress(loadEnvironment()));
    using _progress = new Progress("fetching the tenant");
    const attached = await client.tenantAttach(tenant);
    if (options["json"] === true) return printJson({ tenant_id: tenant, ...attached });
    print(
      `tenant ${tenant} attached up to ${attached.newest_at}; ${
        formatBytes(attached.bytes)
      } come as they are read`,
    );
  },
};

export const tenantDetachCommand: Command = {
  usage: "tenant detach <id>",
  description: "Upload a tenant to its end and remove it here",
  completions: ["tenant"],
  examples: [[`tenant detach ${EXAMPLE_ID}`, "It stays in the object store"]],
  async run(args) {
    const environment = loadEnvironment();
    const tenant = parseTenantId(requiredArg(args, 0));
    await using client = new PageServerClient(pageServerAddress(environment));
    using progress = new Progress("uploading what is left");
    await detachTenant(environment, client, tenant, progress);
    print(`tenant ${tenant} detached`);
  },
};

/** Uploads a tenant to its end, and removes it here, with its computes and its safekeepers' WAL. */
export async function detachTenant(
  environment: Environment,
  client: PageServerClient,
  tenant: TenantId,
  progress: Progress,
): Promise<void> {
  const computes = stoppedComputes(environment, tenant);
  const known = await client.objectStoreStatus();
  const isOurs = known?.tenants.find(({ tenant_id }) => tenant_id === tenant)?.taken_over !== true;
  const timelines = await ownTimelines(environment, tenant, known !== null && isOurs);
  progress.update("removing the tenant");
  await client.tenantDetach(tenant);
  await removeComputes(environment, tenant, computes);
  // Their WAL ends where the tenant was here; elsewhere it goes on.
  for (const problem of await deleteFromSafekeepers(environment, timelines)) warnAboutSafekeeper(problem);
}

/**
 * Lists what the safekeepers have of a tenant.
 *
 * @param untilUploaded waits until the object store has all of it
 * @throws {ZenithError} `timeout`, `unavailable` when a safekeeper does not answer
 */
export async function ownTimelines(environment: Environment, tenant: TenantId, untilUploaded: boolean) {
  const deadline = Date.now() + UPLOAD_TIMEOUT_MS;
  for (;;) {
    const found: SafekeeperTimelineStatus[] = [];
    for (const { address } of listSafekeepers(environment)) {
      found.push(...(await safekeeperStatus(address)).filter(({ tenant_id }) => tenant_id === tenant));
    }
    const late = found.find(({ commit_lsn, remote_consistent_lsn }) => commit_lsn > remote_consistent_lsn);
    if (!untilUploaded || late === undefined) {
      return found.map(({ timeline_id: timeline }) => ({ tenant, timeline }));
    }
    if (Date.now() > deadline) {
      throw new ZenithError(
        "timeout",
        `safekeepers have WAL of timeline ${late.timeline_id} that is not uploaded`,
        {
          hint: '"zenith status" says why uploads do not go on',
        },
      );
    }
    await sleep(POLL_MS);
  }
}
