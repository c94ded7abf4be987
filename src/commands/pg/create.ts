/** `zenith pg create`: sets up a Postgres for a branch. */
import { parseBranchName } from "../../common/id.ts";
import { createCompute } from "../../control/computes.ts";
import { chooseTenant, loadEnvironment, pageServerAddress } from "../../control/environment.ts";
import { parseSettingChange } from "../../control/inherited_settings.ts";
import { PageServerClient } from "../../control/page_server_client.ts";
import {
  type Command,
  JSON_OPTION,
  optionPort,
  optionText,
  requiredArg,
  TENANT_OPTION,
} from "../cli/command.ts";
import { print, printJson, reserveOutputForJson } from "../cli/output.ts";
import { startedJson } from "./started.ts";

export const pgCreateCommand: Command = {
  usage: "pg create <branch>",
  description: "Make a Postgres for a branch, to be started by pg start",
  options: [
    TENANT_OPTION,
    {
      flags: "--port <port>",
      description: "Its port; the first free one of ZENITH_PG_PORTS (from 15432 up) when left out",
    },
    {
      flags: "--listen <address>",
      description: "Where it listens; 127.0.0.1 when left out, * for everywhere",
    },
    {
      flags: "-c, --config <name=value>",
      description: "A setting of the branch, as pg config changes it; may be given several times",
      multiple: true,
    },
    JSON_OPTION,
  ],
  completions: ["branch"],
  examples: [
    ["pg create main", "On the next free port"],
    ["pg create dev --port 6000", "On a port of your choice"],
    ["pg create dev -c work_mem=64MB -c wal_level=logical", "With settings of its own"],
  ],
  async run(args, options) {
    const environment = loadEnvironment();
    const tenant = chooseTenant(environment, optionText(options, "tenantid"));
    const name = parseBranchName(requiredArg(args, 0));
    await using client = new PageServerClient(pageServerAddress(environment));
    const hint = `make it with "zenith branch ${name} <start>"; "zenith branch" shows those there are`;
    const branch = await client.branch(tenant, name, hint);
    const listen = optionText(options, "listen");
    const changes = optionText(options, "config")?.split("\n").map(parseSettingChange) ?? [];
    const isJson = options["json"] === true;
    if (isJson) reserveOutputForJson();
    const compute = await createCompute(environment, client, tenant, branch, {
      port: optionPort(options, "port"),
      changes,
      onNote: print,
      ...(listen === undefined ? {} : { listen }),
    });
    if (isJson) return printJson(startedJson(compute));
    print(
      `Postgres for branch ${name} created, port ${compute.address.port}, configuration in ${compute.paths.pgdata}`,
    );
  },
};
