/** `zenith up`: brings up a database from nothing, in one step. */
import { existsSync } from "node:fs";
import { EnvironmentPaths } from "../../common/paths.ts";
import {
  defaultBranch,
  environmentRoot,
  loadEnvironment,
  pageServerAddress,
} from "../../control/environment.ts";
import { PageServerClient } from "../../control/page_server_client.ts";
import { type Command, JSON_OPTION, PG_VERSION_OPTION } from "../cli/command.ts";
import { print, printJson, reserveOutputForJson } from "../cli/output.ts";
import { makeEnvironment } from "../environment/init.ts";
import { startEverything } from "../environment/start.ts";
import { ensureStarted, printStarted, startedJson } from "./started.ts";

export const upCommand: Command = {
  usage: "up",
  description: "Bring up what is missing: init, start, and the Postgres of the default branch",
  options: [PG_VERSION_OPTION, JSON_OPTION],
  examples: [
    ["up", "As often as you like: it does what is missing"],
    ["up --pg-version 17", "PostgreSQL 17, if the environment is made now"],
  ],
  async run(_args, options) {
    const isJson = options["json"] === true;
    if (isJson) reserveOutputForJson();
    if (!existsSync(new EnvironmentPaths(environmentRoot()).config)) {
      print((await makeEnvironment({ pgVersion: options["pgVersion"] })).said);
    }
    const environment = loadEnvironment();
    const tenant = environment.config.default_tenant_id;
    const branch = defaultBranch(environment, tenant);
    await startEverything(environment);
    await using client = new PageServerClient(pageServerAddress(environment));
    const { compute, how } = await ensureStarted(
      environment,
      client,
      tenant,
      branch,
      () => client.branch(tenant, branch),
    );
    if (isJson) printJson(startedJson(compute));
    else printStarted(environment, compute, how);
  },
};
