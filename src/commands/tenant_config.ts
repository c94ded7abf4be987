import { formatDuration, parseDuration } from "../common/duration.ts";
import { ZenithError } from "../common/errors.ts";
import { parseTenantId } from "../common/id.ts";
import { loadEnvironment, pageServerAddress } from "../control/environment.ts";
import { PageServerClient } from "../control/page_server_client.ts";
import { type Command, optionText, requiredArg } from "./command.ts";
import { print } from "./output.ts";

export const tenantConfigCommand: Command = {
  usage: "tenant config <id>",
  description: "Show or change how much history a tenant keeps: the longer of the two counts",
  options: [
    { flags: "--gc-horizon-bytes <bytes>", description: "In bytes of WAL, at the end of every branch" },
    { flags: "--pitr-interval <duration>", description: "In time: 90s, 30m, 2h, 7d" },
  ],
  async run(args, options) {
    const tenant = parseTenantId(requiredArg(args, 0));
    const bytes = optionText(options, "gcHorizonBytes");
    const interval = optionText(options, "pitrInterval");
    if (bytes !== undefined && !/^\d{1,15}$/.test(bytes)) {
      throw new ZenithError("invalid_argument", `"${bytes}" is not a number of bytes`);
    }
    await using client = new PageServerClient(pageServerAddress(loadEnvironment()));
    const config = await client.tenantConfig(tenant, {
      ...(bytes === undefined ? {} : { gc_horizon_bytes: Number(bytes) }),
      ...(interval === undefined ? {} : { pitr_interval: formatDuration(parseDuration(interval)) }),
    });
    print(`gc_horizon_bytes = ${config.gc_horizon_bytes}`);
    print(`pitr_interval = ${config.pitr_interval}`);
  },
};
