/**
 * The HTTP API `/v1`: each request once, with who may make it, what it takes and what it answers.
 * The handlers, the audit log, OpenAPI and the tests are made from this list.
 */
import {
  array,
  boolean,
  check,
  integer,
  maxLength,
  maxValue,
  minLength,
  minValue,
  nullable,
  number,
  optional,
  picklist,
  pipe,
  record,
  regex,
  strictObject,
  string,
  transform,
} from "valibot";
import { PAGE_SERVER } from "../../protocol/management.ts";
import { PAGE_DEFAULT, PAGE_MAX, type Route } from "../http/routes.ts";

const LIMIT = optional(
  pipe(
    string(),
    regex(/^[1-9]\d{0,3}$/, `expected a number from 1 to ${PAGE_MAX}`),
    transform(Number),
    maxValue(PAGE_MAX),
  ),
  String(PAGE_DEFAULT),
);
const PAGING = { limit: LIMIT, cursor: optional(pipe(string(), maxLength(1_000))) };
const PAGED = strictObject(PAGING);

/**
 * `main`, `main@-5m`, `main@0/16B5A50`, `main@2026-11-22T09:30:00Z`; a branch's id may replace its
 * name.
 */
const POINT = pipe(string(), minLength(1), maxLength(400));
const NAME = pipe(string(), minLength(1), maxLength(128));
/** `90s`, `2h30m`, `7d`. */
const DURATION = pipe(string(), minLength(2), maxLength(64));
const TIME = string();
const LSN = string();
const COUNT = pipe(number(), integer(), minValue(0));

const TenantResult = strictObject({
  id: string(),
  name: string(),
  pg_version: number(),
  created_at: TIME,
  /** The addresses and networks from which clients of Postgres are let in; empty for all. */
  allowed_ips: array(string()),
  history: strictObject({ gc_horizon_bytes: number(), pitr_interval: string() }),
});

const ListedTenantResult = strictObject({ id: string(), name: string(), created_at: TIME });

const ComputeResult = strictObject({
  state: picklist(["awake", "asleep", "crashed"]),
  /** Sessions that go through the proxy. */
  sessions: number(),
  host: string(),
  endpoint_id: string(),
  /** Why the last start failed; null when it did not. */
  failure: nullable(string()),
  /** How long it may be idle; null for what `zenith serve` was told. */
  suspend_after: nullable(string()),
});

const BranchResult = strictObject({
  id: string(),
  name: string(),
  timeline_id: string(),
  parent_timeline_id: nullable(string()),
  parent_lsn: nullable(LSN),
  parent_name: nullable(string()),
  last_lsn: LSN,
  created_at: TIME,
  expires_at: nullable(TIME),
  protected: boolean(),
  logical_size_bytes: nullable(number()),
  physical_size_bytes: nullable(number()),
  compute: ComputeResult,
});

const BranchTimesResult = strictObject({
  id: string(),
  name: string(),
  timeline_id: string(),
  /** The moment of its parent at which it begins; null for a branch that comes from none. */
  begins_at: nullable(TIME),
  /** From here on, each of its moments can be read. Null when nobody has committed yet. */
  kept_from: nullable(TIME),
  /** When its last commit was made. */
  last_commit_at: nullable(TIME),
});

const OperationResult = strictObject({
  id: string(),
  tenant_id: nullable(string()),
  action: string(),
  branch: nullable(string()),
  status: picklist(["running", "finished", "failed"]),
  progress: nullable(string()),
  error: nullable(string()),
  created_at: TIME,
  updated_at: TIME,
});

const TokenResult = strictObject({
  id: string(),
  name: string(),
  scope: string(),
  tenant_id: nullable(string()),
  created_at: TIME,
  expires_at: nullable(TIME),
  state: picklist(["valid", "expired", "revoked"]),
});

/** A moment as it was found: `branch@lsn` names it again. */
const PointResult = strictObject({ branch: string(), timeline_id: string(), lsn: LSN });
const COMPARED = { from: POINT, to: POINT, database: optional(NAME, "postgres") };
/** The row as it is on one side: a value for each column, as text. Null where there is none. */
const RowResult = nullable(array(nullable(string())));

function listOf<const S extends Parameters<typeof array>[0]>(item: S) {
  return strictObject({
    items: array(item),
    /** The `cursor` of the next page; null on the last one. */
    next: nullable(string()),
  });
}

function route<const R extends Route>(route: R): R {
  return route;
}

export const API = {
  session: route({
    name: "session",
    method: "GET",
    path: "/session",
    access: null,
    summary: "Who the request's token is for, and until when",
    changes: false,
    result: strictObject({
      name: string(),
      scope: string(),
      /** Null for a token of the installation. */
      tenant_id: nullable(string()),
      /** Null for one that is valid until it is revoked. */
      expires_at: nullable(TIME),
    }),
  }),
  health: route({
    name: "health",
    method: "GET",
    path: "/health",
    access: PAGE_SERVER.status.access,
    summary: "What is wrong and what to do about it, in the words of zenith status",
    changes: false,
    result: strictObject({
      problems: array(strictObject({
        what: string(),
        hint: string(),
        /** Whether something that should run doesn't, or data is damaged. */
        down: boolean(),
      })),
      disk_free_bytes: COUNT,
      disk_total_bytes: COUNT,
    }),
  }),
  status: route({
    name: "status",
    method: "GET",
    path: "/status",
    access: PAGE_SERVER.status.access,
    summary: "What runs, and what does not stay up",
    changes: false,
    result: strictObject({
      version: string(),
      servers: array(strictObject({ name: string(), running: boolean(), address: string() })),
      computes_awake: COUNT,
      sessions: COUNT,
      restarts: COUNT,
      problems: array(strictObject({ name: string(), attempts: COUNT, error: string() })),
    }),
  }),
  tenantList: route({
    name: "tenant_list",
    method: "GET",
    path: "/tenants",
    access: PAGE_SERVER.tenantList.access,
    summary: "List tenants",
    query: PAGED,
    result: listOf(ListedTenantResult),
    changes: false,
  }),
  tenantCreate: route({
    name: "tenant_create",
    method: "POST",
    path: "/tenants",
    access: PAGE_SERVER.tenantCreate.access,
    summary: "Create a tenant, with a branch main",
    body: strictObject({
      id: optional(pipe(string(), regex(/^[0-9a-f]{32}$/, "expected 32 hex characters"))),
      name: optional(NAME),
      pg_version: optional(pipe(number(), integer(), minValue(14), maxValue(99))),
      locale: optional(NAME),
      encoding: optional(NAME),
      icu_locale: optional(NAME),
      data_checksums: optional(boolean()),
    }),
    result: TenantResult,
    changes: true,
  }),
  tenantGet: route({
    name: "tenant_get",
    method: "GET",
    path: "/tenants/{tenant}",
    access: PAGE_SERVER.tenantStatus.access,
    summary: "Describe a tenant",
    result: TenantResult,
    changes: false,
  }),
  tenantUpdate: route({
    name: "tenant_update",
    method: "PATCH",
    path: "/tenants/{tenant}",
    access: PAGE_SERVER.tenantConfig.access,
    summary: "Change a tenant's name, its history's length, or who may connect",
    body: strictObject({
      name: optional(NAME),
      allowed_ips: optional(pipe(array(pipe(string(), maxLength(100))), maxLength(1_000))),
      history: optional(strictObject({
        gc_horizon_bytes: optional(COUNT),
        pitr_interval: optional(DURATION),
      })),
    }),
    result: TenantResult,
    changes: true,
  }),
  tenantDelete: route({
    name: "tenant_delete",
    method: "DELETE",
    path: "/tenants/{tenant}",
    access: PAGE_SERVER.tenantDelete.access,
    summary: "Delete a tenant with all its branches",
    changes: true,
  }),
  tenantHistory: route({
    name: "tenant_history",
    method: "GET",
    path: "/tenants/{tenant}/history",
    access: PAGE_SERVER.timelineHistory.access,
    summary: "Where each branch begins in time, and how far back it can be read; up to ten minutes old",
    query: PAGED,
    result: listOf(BranchTimesResult),
    changes: false,
  }),
  branchList: route({
    name: "branch_list",
    method: "GET",
    path: "/tenants/{tenant}/branches",
    access: PAGE_SERVER.branchList.access,
    summary: "List branches",
    query: PAGED,
    result: listOf(BranchResult),
    changes: false,
  }),
  branchCreate: route({
    name: "branch_create",
    method: "POST",
    path: "/tenants/{tenant}/branches",
    access: PAGE_SERVER.branchCreate.access,
    summary: "Create a branch of another one, at its end or at a moment of its past",
    body: strictObject({
      name: NAME,
      start: optional(POINT, "main"),
      expires_in: optional(DURATION),
      suspend_after: optional(DURATION),
    }),
    result: BranchResult,
    changes: true,
  }),
  branchGet: route({
    name: "branch_get",
    method: "GET",
    path: "/tenants/{tenant}/branches/{branch}",
    access: PAGE_SERVER.branchGet.access,
    summary: "Describe a branch, by its name or its id",
    result: BranchResult,
    changes: false,
  }),
  branchUpdate: route({
    name: "branch_update",
    method: "PATCH",
    path: "/tenants/{tenant}/branches/{branch}",
    access: PAGE_SERVER.branchProtect.access,
    summary: "Rename, protect, expire a branch, or say when its compute sleeps",
    body: strictObject({
      name: optional(NAME),
      protected: optional(boolean()),
      expires_in: optional(nullable(DURATION)),
      suspend_after: optional(nullable(DURATION)),
    }),
    result: BranchResult,
    changes: true,
  }),
  branchDelete: route({
    name: "branch_delete",
    method: "DELETE",
    path: "/tenants/{tenant}/branches/{branch}",
    access: PAGE_SERVER.branchDelete.access,
    summary: "Delete a branch, its computes, and with cascade=true the branches that come from it",
    query: strictObject({ cascade: optional(picklist(["true", "false"]), "false") }),
    result: strictObject({ deleted: array(string()) }),
    changes: true,
  }),
  branchRestore: route({
    name: "branch_restore",
    method: "POST",
    path: "/tenants/{tenant}/branches/{branch}/restore",
    access: PAGE_SERVER.branchRestore.access,
    summary: "Put a branch to another point; with keep_as, what it was stays under that name",
    body: strictObject({ source: POINT, keep_as: optional(NAME) }),
    result: BranchResult,
    changes: true,
  }),
  branchReset: route({
    name: "branch_reset",
    method: "POST",
    path: "/tenants/{tenant}/branches/{branch}/reset",
    access: PAGE_SERVER.branchRestore.access,
    summary: "Put a branch to its parent's end",
    body: strictObject({ keep_as: optional(NAME) }),
    result: BranchResult,
    changes: true,
  }),
  branchHistory: route({
    name: "branch_history",
    method: "GET",
    path: "/tenants/{tenant}/branches/{branch}/history",
    access: PAGE_SERVER.timelineHistory.access,
    summary: "The timelines that make up a branch, newest first, and how far back each can be read",
    result: strictObject({
      items: array(strictObject({
        timeline_id: string(),
        lsn: LSN,
        time: nullable(TIME),
        kept_from_lsn: LSN,
        kept_from: nullable(TIME),
      })),
    }),
    changes: false,
  }),
  branchWal: route({
    name: "branch_wal",
    method: "GET",
    path: "/tenants/{tenant}/branches/{branch}/wal",
    access: PAGE_SERVER.lsnAt.access,
    summary:
      "The LSNs of a branch at moments that are equally far apart: how much WAL there was between them",
    query: strictObject({
      from: string(),
      to: string(),
      points: optional(
        pipe(string(), regex(/^\d{1,2}$/, "expected a number from 2 to 99"), transform(Number), minValue(2)),
        "25",
      ),
    }),
    result: strictObject({
      items: array(strictObject({
        time: TIME,
        /** Null before the history that is kept, and where the clock was set back. */
        lsn: nullable(LSN),
      })),
    }),
    changes: false,
  }),
  branchLayers: route({
    name: "branch_layers",
    method: "GET",
    path: "/tenants/{tenant}/branches/{branch}/layers",
    access: PAGE_SERVER.timelineLayers.access,
    summary: "The layers of the timelines that make up a branch, newest timeline first",
    result: strictObject({
      items: array(strictObject({
        timeline_id: string(),
        /** Null for a timeline that no branch names. */
        branch: nullable(string()),
        /** The branch has what is above the first and at or below the second of this timeline. */
        start_lsn: LSN,
        end_lsn: LSN,
        /** Up to here it is in layers; the rest is in memory. */
        disk_consistent_lsn: LSN,
        memory_bytes: COUNT,
        layers: array(strictObject({
          kind: picklist(["delta", "image"]),
          /** How often its contents were merged. */
          level: COUNT,
          start_lsn: LSN,
          end_lsn: LSN,
          /** Kind, three numbers of the object, fork, block: docs/formats/keys.md. */
          first_key: nullable(array(number())),
          last_key: nullable(array(number())),
          size_bytes: COUNT,
          /** How much of it is in the page server's memory, unpacked: what was read lately. */
          cached_bytes: COUNT,
          /** Null when the next garbage collection may shrink it. */
          needed_by: nullable(picklist(["horizon", "pitr", "branches", "leases"])),
        })),
      })),
    }),
    changes: false,
  }),
  branchPage: route({
    name: "branch_page",
    method: "GET",
    path: "/tenants/{tenant}/branches/{branch}/page",
    access: PAGE_SERVER.pageVersions.access,
    summary: "The versions that a read of one page goes through, newest first",
    query: strictObject({
      /** `base/5/16384` as pg_relation_filepath() has it. */
      file: pipe(string(), maxLength(200)),
      fork: optional(picklist(["main", "fsm", "vm", "init"]), "main"),
      block: optional(pipe(string(), regex(/^\d{1,10}$/, "expected a block number"), transform(Number)), "0"),
      lsn: optional(pipe(string(), maxLength(20))),
    }),
    result: strictObject({
      lsn: LSN,
      versions: array(strictObject({
        lsn: LSN,
        kind: picklist(["record", "image"]),
        bytes: COUNT,
      })),
      /** Whether the last one needs no earlier one. */
      complete: boolean(),
      /** The page's key. */
      key: array(number()),
    }),
    changes: false,
  }),
  branchLsn: route({
    name: "branch_lsn",
    method: "GET",
    path: "/tenants/{tenant}/branches/{branch}/lsn",
    access: PAGE_SERVER.lsnAt.access,
    summary: "The LSN of a point in time, which may be an ancestor's",
    query: strictObject({ time: pipe(string(), check((text) => text !== "", "expected a time")) }),
    result: strictObject({ lsn: LSN, timeline_id: string() }),
    changes: false,
  }),
  diffSchema: route({
    name: "diff_schema",
    method: "GET",
    path: "/tenants/{tenant}/diff/schema",
    // Whoever sees what differs reads data.
    access: PAGE_SERVER.branchCreate.access,
    summary: "How the schemas of two moments differ, as lines of a unified diff of what pg_dump -s writes",
    query: strictObject(COMPARED),
    result: strictObject({ from: PointResult, to: PointResult, lines: array(string()) }),
    changes: false,
  }),
  diffTables: route({
    name: "diff_tables",
    method: "GET",
    path: "/tenants/{tenant}/diff/tables",
    access: PAGE_SERVER.branchCreate.access,
    summary: "The tables and sequences that differ between two moments; a is from, b is to",
    query: strictObject(COMPARED),
    result: strictObject({
      from: PointResult,
      to: PointResult,
      tables: array(strictObject({
        schema: string(),
        table: string(),
        only_in: nullable(picklist(["a", "b"])),
        /** How many pages may differ; null when the table was compared as a whole. */
        changed_pages: nullable(number()),
        added_rows: COUNT,
        removed_rows: COUNT,
        changed_rows: COUNT,
        notes: array(string()),
      })),
      sequences: array(strictObject({
        schema: string(),
        sequence: string(),
        only_in: nullable(picklist(["a", "b"])),
        before: nullable(string()),
        after: nullable(string()),
      })),
    }),
    changes: false,
  }),
  diffRows: route({
    name: "diff_rows",
    method: "GET",
    path: "/tenants/{tenant}/diff/rows",
    access: PAGE_SERVER.branchCreate.access,
    summary: "Rows of a table that differ between two moments, in no particular order; long values are cut",
    query: strictObject({ ...COMPARED, table: pipe(string(), minLength(1), maxLength(300)), limit: LIMIT }),
    result: strictObject({
      from: PointResult,
      to: PointResult,
      columns: array(string()),
      /** The names of the columns by which rows are the same one; empty when there is no key. */
      key: array(string()),
      notes: array(string()),
      rows: array(strictObject({ before: RowResult, after: RowResult })),
      has_more: boolean(),
    }),
    changes: false,
  }),
  computeGet: route({
    name: "compute_get",
    method: "GET",
    path: "/tenants/{tenant}/branches/{branch}/compute",
    access: PAGE_SERVER.branchGet.access,
    summary: "Describe a branch's compute",
    result: ComputeResult,
    changes: false,
  }),
  computeStart: route({
    name: "compute_start",
    method: "POST",
    path: "/tenants/{tenant}/branches/{branch}/compute/start",
    access: PAGE_SERVER.branchCreate.access,
    summary: "Wake a branch's compute, as a client that connects does",
    result: ComputeResult,
    changes: true,
  }),
  computeStop: route({
    name: "compute_stop",
    method: "POST",
    path: "/tenants/{tenant}/branches/{branch}/compute/stop",
    access: PAGE_SERVER.branchCreate.access,
    summary: "Stop a branch's compute; the next client wakes it",
    body: strictObject({ mode: optional(picklist(["fast", "immediate"]), "fast") }),
    result: ComputeResult,
    changes: true,
  }),
  computeUri: route({
    name: "compute_uri",
    method: "GET",
    path: "/tenants/{tenant}/branches/{branch}/compute/uri",
    // It has a password.
    access: PAGE_SERVER.branchCreate.access,
    summary: "The connection string of a branch, with the password when it is known",
    query: strictObject({
      role: optional(NAME),
      database: optional(NAME),
      pooled: optional(picklist(["true", "false"]), "false"),
    }),
    result: strictObject({ uri: string() }),
    changes: false,
  }),
  computeFigures: route({
    name: "compute_figures",
    method: "GET",
    path: "/tenants/{tenant}/branches/{branch}/compute/figures",
    access: PAGE_SERVER.branchGet.access,
    summary: "What a branch's Postgres counts and holds now; it is not woken for that",
    result: strictObject({
      /** When it was asked. */
      at: TIME,
      /** Null while it sleeps. */
      figures: nullable(strictObject({
        /** Since it was started, as all that ends in total. */
        transactions_total: COUNT,
        blocks_hit_total: COUNT,
        blocks_read_total: COUNT,
        connections: strictObject({
          active: COUNT,
          idle: COUNT,
          idle_in_transaction: COUNT,
          max: COUNT,
        }),
        flush_lsn: LSN,
        /** How much of its WAL the page server does not have yet. */
        lag_bytes: COUNT,
        /** How long commits wait until they are durable. Null when nobody has committed lately. */
        commit_wait_ms: nullable(number()),
      })),
    }),
    changes: false,
  }),
  computeLog: route({
    name: "compute_log",
    method: "GET",
    path: "/tenants/{tenant}/branches/{branch}/compute/log",
    // Postgres logs statements, which have data in them.
    access: PAGE_SERVER.branchCreate.access,
    summary:
      "Lines of the log of a branch's Postgres, or of its supervisor, after those of the answer before",
    query: strictObject({
      source: optional(picklist(["postgres", "supervisor"]), "postgres"),
      /** How many of its last lines, without after. */
      limit: LIMIT,
      /** The cursor of the answer before. */
      after: optional(pipe(string(), maxLength(40))),
    }),
    result: strictObject({ lines: array(string()), cursor: string() }),
    changes: false,
  }),
  branchSettings: route({
    name: "branch_settings",
    method: "GET",
    path: "/tenants/{tenant}/branches/{branch}/settings",
    // Passwords may be among them.
    access: PAGE_SERVER.branchCreate.access,
    summary: "PostgreSQL's settings of a branch, as zenith pg config shows them",
    result: strictObject({ items: array(strictObject({ name: string(), value: string() })) }),
    changes: false,
  }),
  operationList: route({
    name: "operation_list",
    method: "GET",
    path: "/tenants/{tenant}/operations",
    access: PAGE_SERVER.branchList.access,
    summary: "List what was done over the API, newest first",
    query: PAGED,
    result: listOf(OperationResult),
    changes: false,
  }),
  operationGet: route({
    name: "operation_get",
    method: "GET",
    path: "/tenants/{tenant}/operations/{operation}",
    access: PAGE_SERVER.branchList.access,
    summary: "How an operation goes",
    result: OperationResult,
    changes: false,
  }),
  auditList: route({
    name: "audit_list",
    method: "GET",
    path: "/audit",
    access: "admin",
    summary: "The latest changes of the audit logs, and those that were refused, newest first",
    query: strictObject({ limit: LIMIT, source: optional(picklist(["api", "page_server"])) }),
    result: strictObject({
      items: array(strictObject({
        time: TIME,
        source: picklist(["api", "page_server"]),
        /** The token's id, whom it is for, and its scope. */
        token: string(),
        for: string(),
        scope: string(),
        client: string(),
        command: string(),
        tenant_id: nullable(string()),
        args: record(string(), string()),
        outcome: picklist(["done", "refused", "failed"]),
        error: nullable(string()),
      })),
    }),
    changes: false,
  }),
  followList: route({
    name: "follow_list",
    method: "GET",
    path: "/follows",
    access: PAGE_SERVER.followList.access,
    summary: "The branches that follow a primary or an archive, and how far behind they are",
    result: strictObject({
      items: array(strictObject({
        tenant_id: string(),
        branch: nullable(string()),
        timeline_id: string(),
        source: string(),
        /** opening, connecting, streaming, reading, waiting, stopped or failed. */
        state: string(),
        problem: nullable(string()),
        slot: nullable(string()),
        lag_bytes: nullable(number()),
        lag_s: nullable(number()),
        /** Up to here it has the source's WAL; null when that is not known. */
        last_lsn: nullable(LSN),
      })),
    }),
    changes: false,
  }),
  transferList: route({
    name: "transfer_list",
    method: "GET",
    path: "/transfers",
    access: PAGE_SERVER.transferList.access,
    summary:
      "Imports, exports and base backups with how far they are: those that run, then those that lately did",
    result: strictObject({
      items: array(strictObject({
        /** Counts up from the page server's start. */
        id: COUNT,
        /** `follow` is the copy of a primary that is followed from then on. */
        kind: picklist(["import", "follow", "export", "base_backup"]),
        tenant_id: string(),
        /** The branch that it makes or reads, by its name then; null for one without a name. */
        branch: nullable(string()),
        /** From where, or whereto. */
        peer: string(),
        status: picklist(["running", "finished", "failed"]),
        /** `wal` once all files of an import are there: then their WAL is applied. */
        step: picklist(["files", "wal"]),
        bytes: COUNT,
        /** How much there will be, as far as that is known; null when it is not. */
        estimated_bytes: nullable(COUNT),
        started_at: TIME,
        /** Null while it runs. */
        ended_at: nullable(TIME),
        error: nullable(string()),
      })),
    }),
    changes: false,
  }),
  uploadStatus: route({
    name: "upload_status",
    method: "GET",
    path: "/uploads",
    access: PAGE_SERVER.objectStoreStatus.access,
    summary: "What the page server has sent to its object store, and what is not there yet",
    result: strictObject({
      /** Null when it has no object store. */
      store: nullable(strictObject({
        url: string(),
        requests_total: COUNT,
        retries_total: COUNT,
        sent_bytes_total: COUNT,
        received_bytes_total: COUNT,
        tenants: array(strictObject({
          tenant_id: string(),
          pending_bytes: COUNT,
          pending_since: nullable(TIME),
          error: nullable(string()),
        })),
      })),
    }),
    changes: false,
  }),
  tokenList: route({
    name: "token_list",
    method: "GET",
    path: "/tokens",
    access: "admin",
    summary: "List the tokens that were made here, without the tokens themselves",
    query: PAGED,
    result: listOf(TokenResult),
    changes: false,
  }),
  tokenCreate: route({
    name: "token_create",
    method: "POST",
    path: "/tokens",
    access: "admin",
    summary: "Make a token; only this answer has it",
    body: strictObject({
      name: NAME,
      scope: picklist(["admin", "tenant", "read"]),
      tenant_id: optional(pipe(string(), regex(/^[0-9a-f]{32}$/, "expected 32 hex characters"))),
      expires_in: optional(DURATION, "90d"),
    }),
    result: strictObject({ id: string(), token: string() }),
    changes: true,
  }),
  tokenRevoke: route({
    name: "token_revoke",
    method: "DELETE",
    path: "/tokens/{token}",
    access: "admin",
    summary: "Revoke a token",
    changes: true,
  }),
} as const;
