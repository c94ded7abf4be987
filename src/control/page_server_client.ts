/** The page server's management commands, over the wire. */
import postgres from "postgres";
import {
  array,
  boolean,
  type GenericSchema,
  type InferOutput,
  nullable,
  number,
  object,
  optional,
  pipe,
  safeParse,
  string,
  transform,
} from "valibot";
import { errorMessage, systemErrorCode, ZenithError } from "../common/errors.ts";
import { formatHostPort, type HostPort, parseHostPort } from "../common/host_port.ts";
import {
  type BranchName,
  parseTenantId,
  parseTimelineId,
  type TenantId,
  type TimelineId,
} from "../common/id.ts";
import { parseLsn } from "../common/lsn.ts";
import { formatTimestamp } from "../common/timestamp.ts";
import { kindOfSqlstate } from "../pgwire/sqlstate.ts";

const LsnSchema = pipe(string(), transform(parseLsn));
const TimelineIdSchema = pipe(string(), transform(parseTimelineId));

const BranchSchema = object({
  name: string(),
  timeline_id: TimelineIdSchema,
  latest_valid_lsn: LsnSchema,
  ancestor_id: nullable(TimelineIdSchema),
  ancestor_lsn: nullable(LsnSchema),
  /** RFC 3339; null: never. */
  expires_at: nullable(string()),
  /** Of all relations as PostgreSQL would say, and on disk. Only `branch_list` tells. */
  logical_size_bytes: optional(nullable(number())),
  physical_size_bytes: optional(nullable(number())),
});

/** A branch as the page server describes it. `ancestor_*` are null for a branch that began with its tenant. */
export type BranchInfo = InferOutput<typeof BranchSchema>;

const TimelineStatusSchema = object({ safekeepers: array(string()) });

const TenantConfigSchema = object({ gc_horizon_bytes: number(), pitr_interval: string() });

/** How much history a tenant keeps: bytes of WAL, and a duration such as `7d`; the longer of the two counts. */
export type TenantConfig = InferOutput<typeof TenantConfigSchema>;

const FoundLsnSchema = object({ lsn: LsnSchema, timeline_id: TimelineIdSchema });

export type FoundLsn = InferOutput<typeof FoundLsnSchema>;

const TenantListSchema = array(pipe(string(), transform(parseTenantId)));

const StatusSchema = object({
  pid: number(),
  rss_bytes: number(),
  timelines: array(object({
    tenant_id: string(),
    timeline_id: string(),
    last_record_lsn: LsnSchema,
    /** Where the timeline's WAL comes from; null when from nowhere. */
    wal_receiver: nullable(object({ source: string(), streaming: boolean(), error: nullable(string()) })),
  })),
});

/** What a page server says of itself, and of the timelines that it has open. */
export type PageServerStatus = InferOutput<typeof StatusSchema>;

const CONNECT_TIMEOUT_S = 10;

/** One connection to a page server; close it by `await using` or {@link close}. */
export class PageServerClient implements AsyncDisposable {
  readonly address: HostPort;
  readonly #sql: postgres.Sql;

  constructor(address: HostPort) {
    this.address = address;
    this.#sql = postgres({
      host: address.host,
      port: address.port,
      user: "zenith_admin",
      database: "zenith",
      password: "",
      max: 1,
      connect_timeout: CONNECT_TIMEOUT_S,
      // The page server has no catalog of types to be asked for.
      fetch_types: false,
      connection: { application_name: "zenith" },
      onnotice: () => {},
    });
  }

  /** @throws {ZenithError} as every method: `unavailable` when it can't be reached, else the page server's own error */
  status(): Promise<PageServerStatus> {
    return this.#json("status", StatusSchema);
  }

  tenantList(): Promise<TenantId[]> {
    return this.#json("tenant_list", TenantListSchema);
  }

  async tenantCreate(tenant: TenantId): Promise<void> {
    await this.#run(`tenant_create ${tenant}`);
  }

  async tenantDelete(tenant: TenantId): Promise<void> {
    await this.#run(`tenant_delete ${tenant}`);
  }

  /** Changes what is given, and answers with all of it. */
  tenantConfig(tenant: TenantId, changes: Partial<TenantConfig> = {}): Promise<TenantConfig> {
    const settings = Object.entries(changes).map(([name, value]) => ` ${name}=${value}`);
    return this.#json(`tenant_config ${tenant}${settings.join("")}`, TenantConfigSchema);
  }

  /** Which safekeepers have WAL of the timeline that may not be at the page server yet. */
  async timelineSafekeepers(tenant: TenantId, timeline: TimelineId): Promise<HostPort[]> {
    const status = await this.#json(`timeline_status ${tenant} ${timeline}`, TimelineStatusSchema);
    return status.safekeepers.map(parseHostPort);
  }

  /** From now on no safekeepers have to be asked for it. @throws {ZenithError} `conflict` while a compute runs on it */
  async releaseTimeline(tenant: TenantId, timeline: TimelineId): Promise<void> {
    await this.#run(`timeline_safekeepers ${tenant} ${timeline} none`);
  }

  branchList(tenant: TenantId): Promise<BranchInfo[]> {
    return this.#json(`branch_list ${tenant}`, array(BranchSchema));
  }

  /** @param start a branch, `branch@LSN`, `branch@timestamp` with a time zone, or a timeline id in place of the branch */
  branchCreate(
    tenant: TenantId,
    name: BranchName,
    start: string,
    lifetimeMs?: number,
  ): Promise<BranchInfo> {
    const expires = lifetimeMs === undefined ? "" : ` expires=${lifetimeMs}ms`;
    return this.#json(`branch_create ${tenant} ${name} ${start}${expires}`, BranchSchema);
  }

  branchRename(tenant: TenantId, from: BranchName, to: BranchName): Promise<BranchInfo> {
    return this.#json(`branch_rename ${tenant} ${from} ${to}`, BranchSchema);
  }

  /** @returns the names of the branches that were deleted */
  branchDelete(tenant: TenantId, name: BranchName, cascade: boolean): Promise<string[]> {
    return this.#json(`branch_delete ${tenant} ${name}${cascade ? " cascade" : ""}`, array(string()));
  }

  /** @param timestamp microseconds since 2000 @returns the LSN, and the timeline or ancestor that it belongs to */
  lsnAt(tenant: TenantId, timeline: TimelineId, timestamp: number): Promise<FoundLsn> {
    return this.#json(`lsn_at ${tenant} ${timeline} ${formatTimestamp(timestamp)}`, FoundLsnSchema);
  }

  async close(): Promise<void> {
    await this.#sql.end({ timeout: 1 });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** The command's one row, one column, as JSON. */
  async #json<const S extends GenericSchema>(command: string, schema: S): Promise<InferOutput<S>> {
    const rows = await this.#run(command);
    const [row] = rows;
    const cells = row === undefined ? [] : Object.values(row);
    if (rows.length !== 1 || cells.length !== 1) {
      throw new ZenithError(
        "protocol",
        `${this.#name()} answered "${command}" with ${rows.length} rows of ${cells.length} columns: expected one cell`,
      );
    }
    const [cell] = cells;
    const result = safeParse(schema, typeof cell === "string" ? parseJson(cell) : cell);
    if (!result.success) {
      const issue = result.issues[0];
      const key = issue.path?.map((item) => String(item.key)).join(".");
      throw new ZenithError(
        "protocol",
        `${this.#name()} answered "${command}" with something unexpected: ${key ?? ""} ${issue.message}`,
      );
    }
    return result.output;
  }

  async #run(command: string): Promise<Record<string, unknown>[]> {
    try {
      return [...await this.#sql.unsafe<Record<string, unknown>[]>(command)];
    } catch (error) {
      throw wireError(error, this.#name());
    }
  }

  #name(): string {
    return `the page server at ${formatHostPort(this.address)}`;
  }
}

/** @throws {ZenithError} `not_found`, with `hint`, when none of a tenant's `branches` has that name */
export function branchNamed(
  branches: readonly BranchInfo[],
  tenant: TenantId,
  name: BranchName,
  hint = '"zenith branch" shows those there are',
): BranchInfo {
  const branch = branches.find((branch) => branch.name === name);
  if (branch !== undefined) return branch;
  throw new ZenithError("not_found", `tenant ${tenant} has no branch ${name}`, { hint });
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

/** What the `postgres` package threw, as one of ours. `server` names the other end in messages. */
function wireError(error: unknown, server: string): ZenithError {
  if (error instanceof postgres.PostgresError) {
    const hint = error.hint;
    return new ZenithError(kindOfSqlstate(error.code), error.message, {
      ...(hint === undefined ? {} : { hint }),
      cause: error,
    });
  }
  const code = systemErrorCode(error);
  if (code === "CONNECT_TIMEOUT" || code === "ETIMEDOUT") {
    return new ZenithError("unavailable", `${server} does not answer`, { cause: error });
  }
  if (code === "ECONNREFUSED") {
    return new ZenithError("unavailable", `${server} is not running`, {
      hint: 'run "zenith start"',
      cause: error,
    });
  }
  if (code !== undefined) {
    return new ZenithError("unavailable", `lost ${server}: ${errorMessage(error)}`, { cause: error });
  }
  return new ZenithError("io", `${server}: ${errorMessage(error)}`, { cause: error });
}
