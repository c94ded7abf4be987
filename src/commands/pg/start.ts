/** `zenith pg start`: starts the Postgres of a branch. */
import { resolve } from "node:path";
import { isOwn } from "../../common/compute_name.ts";
import { ZenithError } from "../../common/errors.ts";
import { type BranchName, type TenantId } from "../../common/id.ts";
import { formatLsn, type Lsn, parseLsn } from "../../common/lsn.ts";
import { parseStorageChoice } from "../../compute/storage.ts";
import { isUp } from "../../control/compute_places.ts";
import { type ComputeInfo, findCompute, findOrCreateCompute, startCompute } from "../../control/computes.ts";
import {
  chooseTenant,
  type Environment,
  loadEnvironment,
  pageServerAddress,
} from "../../control/environment.ts";
import { findOrCreateMoment, type NamedCompute, parseComputeName, untilPast } from "../../control/moments.ts";
import { PageServerClient } from "../../control/page_server_client.ts";
import { findOrCreateReplica, freeReplica } from "../../control/replicas.ts";
import {
  type Command,
  JSON_OPTION,
  optionPort,
  optionText,
  requiredArg,
  TENANT_OPTION,
} from "../cli/command.ts";
import { FIRST_START_OPTIONS, PREWARM_OPTION, READ_ONLY_OPTION, STORAGE_OPTION } from "../role/compute.ts";
import { printJson, Progress } from "../cli/output.ts";
import { printStarted, startedJson } from "./started.ts";

export const pgStartCommand: Command = {
  usage: "pg start <branch>",
  description: "Start the Postgres of a branch, or a read-only one beside it",
  options: [
    TENANT_OPTION,
    READ_ONLY_OPTION,
    { flags: "--replica", description: "Beside it, another read-only one that follows the branch" },
    { flags: "--port <port>", description: "Its port, if it is made now; the first free one when left out" },
    STORAGE_OPTION,
    PREWARM_OPTION,
    ...FIRST_START_OPTIONS,
    JSON_OPTION,
  ],
  completions: ["compute"],
  examples: [
    ["pg start main", "Goes on where the branch ends"],
    ["pg start main@-5m", "Beside it, read-only: main as it was five minutes ago"],
    ["pg start main --lsn 0/223C288", "Only to look at how it was; beside main's own when that runs"],
    ["pg start main --replica", "Follows main; another one each time"],
    ["pg start main --prewarm", "What it used before it was stopped comes in the background"],
    ["pg start dev --first-start-sql mask.sql", "Nobody sees the branch before that has run"],
  ],
  async run(args, options) {
    const environment = loadEnvironment();
    const tenant = chooseTenant(environment, optionText(options, "tenantid"));
    const lsn = optionText(options, "lsn");
    const readOnlyAt = lsn === undefined ? undefined : parseLsn(lsn);
    const wantsReplica = options["replica"] === true;
    const named = chooseCompute(environment, tenant, requiredArg(args, 0), readOnlyAt, wantsReplica);
    const { branch: name, moment, replica } = named;
    const port = optionPort(options, "port");
    const storage = optionText(options, "storage");
    const sqlFile = optionText(options, "firstStartSql");
    await using client = new PageServerClient(pageServerAddress(environment));
    const compute = replica !== null
      ? await findOrCreateReplica(
        environment,
        client,
        tenant,
        await client.branch(tenant, name),
        replica,
        port,
      )
      : moment === undefined
      ? await findOrCreateCompute(environment, client, tenant, name, () => client.branch(tenant, name), {
        port,
      })
      : await findOrCreateMoment(environment, client, tenant, name, moment, port);
    assertPort(compute, port);
    const past = compute.moment ?? readOnlyAt;
    const runs = isRunningAt(compute, past);
    if (!runs) {
      using progress = new Progress("starting Postgres");
      if (past !== undefined && isOwn(compute)) await untilPast(client, compute, past);
      await startCompute(environment, compute, {
        ...(storage === undefined ? {} : { storage: parseStorageChoice(storage) }),
        ...(options["prewarm"] === true ? { prewarm: true } : {}),
        ...(past === undefined ? {} : { readOnlyAt: past }),
        ...(options["keepSubscriptions"] === true ? { keepSubscriptions: true } : {}),
        ...(options["keepCron"] === true ? { keepCron: true } : {}),
        ...(sqlFile === undefined ? {} : { firstStartSql: resolve(sqlFile) }),
        onProgress: (text) => progress.update(text),
      });
    }
    if (options["json"] === true) return printJson(startedJson(compute, past));
    printStarted(environment, compute, runs ? "runs already" : "started", past);
  },
};

/**
 * Chooses the Postgres to start: one beside the branch's own if the name has a moment or is a
 * replica's, if another replica is wanted, or if the branch's own already runs at anything but
 * `--lsn`.
 *
 * @throws {ZenithError} `invalid_argument`
 */
function chooseCompute(
  environment: Environment,
  tenant: TenantId,
  text: string,
  readOnlyAt: Lsn | undefined,
  wantsReplica: boolean,
): NamedCompute {
  const named = parseComputeName(text);
  const isBeside = named.moment !== undefined || named.replica !== null;
  if (wantsReplica && (isBeside || readOnlyAt !== undefined)) {
    throw new ZenithError("invalid_argument", "--replica takes a branch, and follows it from its end");
  }
  if (wantsReplica) return { ...named, replica: freeReplica(environment, tenant, named.branch) };
  if (readOnlyAt === undefined) return named;
  if (isBeside) {
    throw new ZenithError("invalid_argument", `"${text}" names a moment already: leave out --lsn`);
  }
  return runsAtOther(environment, tenant, named.branch, readOnlyAt)
    ? { ...named, moment: { kind: "lsn", lsn: readOnlyAt } }
    : named;
}

function runsAtOther(environment: Environment, tenant: TenantId, branch: BranchName, lsn: Lsn): boolean {
  try {
    const own = findCompute(environment, tenant, branch);
    return isUp(own) && own.readOnlyAt !== lsn;
  } catch (error) {
    if (error instanceof ZenithError && error.kind === "not_found") return false;
    throw error;
  }
}

/** @throws {ZenithError} `conflict` when the compute has another port */
function assertPort({ name, address, paths }: ComputeInfo, port: number | undefined): void {
  if (port === undefined || port === address.port) return;
  throw new ZenithError("conflict", `the Postgres of branch ${name} has port ${address.port}`, {
    hint: `leave out --port, or change port in ${paths.config} while it is stopped`,
  });
}

/**
 * Whether the compute already runs as requested.
 *
 * @throws {ZenithError} `conflict` when it runs, but not as requested
 */
function isRunningAt(compute: ComputeInfo, readOnlyAt: Lsn | undefined): boolean {
  if (compute.status !== "running") return false;
  if (compute.readOnlyAt === (readOnlyAt ?? null)) return true;
  const now = compute.readOnlyAt === null ? "at its end" : `read-only at ${formatLsn(compute.readOnlyAt)}`;
  throw new ZenithError("conflict", `the Postgres of branch ${compute.name} is running ${now}`, {
    hint: `stop it first: "zenith pg stop ${compute.name}"`,
  });
}
