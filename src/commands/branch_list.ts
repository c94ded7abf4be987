import { formatLsn } from "../common/lsn.ts";
import { chooseTenant, loadEnvironment, pageServerAddress } from "../control/environment.ts";
import { PageServerClient } from "../control/page_server_client.ts";
import { type Command, optionText, TENANT_OPTION } from "./command.ts";
import { formatTable, print } from "./output.ts";

export const branchListCommand: Command = {
  usage: "branch list",
  description: "List the branches of a tenant with their ends and sizes",
  options: [TENANT_OPTION],
  async run(_args, options) {
    const environment = loadEnvironment();
    const tenant = chooseTenant(environment, optionText(options, "tenantid"));
    await using client = new PageServerClient(pageServerAddress(environment));
    const rows = (await client.branchList(tenant)).map((branch) => [
      branch.name,
      branch.timeline_id,
      formatLsn(branch.latest_valid_lsn),
      megabytes(branch.logical_size_bytes),
      megabytes(branch.physical_size_bytes),
      branch.expires_at ?? "never",
    ]);
    for (const line of formatTable([["BRANCH", "TIMELINE", "LSN", "DATA", "ON DISK", "EXPIRES"], ...rows])) {
      print(line);
    }
  },
};

function megabytes(bytes: number | null | undefined): string {
  return bytes === null || bytes === undefined ? "?" : `${(bytes / (1 << 20)).toFixed(1)} MiB`;
}
