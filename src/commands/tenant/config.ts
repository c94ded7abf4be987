/** `zenith tenant config`: shows and changes a tenant's settings. */
import { parseDuration } from "../../common/duration.ts";
import { ZenithError } from "../../common/errors.ts";
import { parseTenantId } from "../../common/id.ts";
import { loadEnvironment, pageServerAddress } from "../../control/environment.ts";
import { PageServerClient } from "../../control/page_server_client.ts";
import { type Command, JSON_OPTION, optionText, requiredArg } from "../cli/command.ts";
import { print, printJson } from "../cli/output.ts";

export const tenantConfigCommand: Command = {
  usage: "tenant config <id>",
  description: "Show or change how much history a tenant keeps",
  options: [
    {
      flags: "--gc-horizon-bytes <bytes>",
      description: "In bytes of WAL, at the end of every branch; the longer of the two counts",
    },
    { flags: "--pitr-interval <duration>", description: "In time: 90s, 30m, 2h, 7d" },
    JSON_OPTION,
  ],
  completions: ["tenant"],
  examples: [
    ["tenant config d70d3869a8c586d3eaf7029fe261620c", "How it is now"],
    [
      "tenant config d70d3869a8c586d3eaf7029fe261620c --pitr-interval 7d",
      "Every moment of a week can be branched from",
    ],
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
      ...(bytes === undefined ? {} : { gcHorizonBytes: Number(bytes) }),
      ...(interval === undefined ? {} : { pitrIntervalMs: parseDuration(interval) }),
    });
    if (options["json"] === true) return printJson({ tenant_id: tenant, ...config });
    print(`gc_horizon_bytes = ${config.gc_horizon_bytes}`);
    print(`pitr_interval = ${config.pitr_interval}`);
  },
};
