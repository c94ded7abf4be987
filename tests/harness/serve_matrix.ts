/** Each request of `/v1`, and by which tokens it is let in. A request without a row here fails a unit test. */
import type { API } from "../../src/serve/api/contract.ts";

export type Token = "admin" | "tenant" | "read";

export interface ApiRow {
  readonly by: readonly Token[];
  readonly body?: unknown;
  readonly query?: string;
}

/** Who has which access, at most. */
export const BY = {
  admin: ["admin"],
  tenant: ["admin", "tenant"],
  read: ["admin", "tenant", "read"],
} as const;

const { admin: ADMIN, tenant: OWNER, read: READER } = BY;

export const API_ROWS: Readonly<Record<keyof typeof API, ApiRow>> = {
  session: { by: READER },
  health: { by: ADMIN },
  status: { by: ADMIN },
  tenantList: { by: ADMIN },
  tenantCreate: { by: ADMIN, body: { pg_version: 99 } },
  tenantGet: { by: READER },
  tenantUpdate: { by: OWNER, body: {} },
  tenantDelete: { by: ADMIN },
  tenantHistory: { by: READER },
  branchList: { by: READER },
  branchCreate: { by: OWNER, body: { name: "one" } },
  branchGet: { by: READER },
  branchUpdate: { by: OWNER, body: {} },
  branchDelete: { by: OWNER },
  branchRestore: { by: OWNER, body: { source: "main" } },
  branchReset: { by: OWNER, body: {} },
  branchHistory: { by: READER },
  branchWal: { by: READER, query: "?from=2026-01-01T00:00:00Z&to=2026-01-02T00:00:00Z&points=2" },
  branchLayers: { by: READER },
  branchPage: { by: READER, query: "?file=base/5/1259" },
  branchLsn: { by: READER, query: "?time=2026-01-01T00:00:00Z" },
  diffSchema: { by: OWNER, query: "?from=nobody&to=nobody" },
  diffTables: { by: OWNER, query: "?from=nobody&to=nobody" },
  diffRows: { by: OWNER, query: "?from=nobody&to=nobody&table=t" },
  computeGet: { by: READER },
  computeStart: { by: OWNER },
  computeStop: { by: OWNER, body: {} },
  computeUri: { by: OWNER },
  computeFigures: { by: READER },
  computeLog: { by: OWNER },
  branchSettings: { by: OWNER },
  operationList: { by: READER },
  operationGet: { by: READER },
  auditList: { by: ADMIN },
  followList: { by: ADMIN },
  transferList: { by: ADMIN },
  uploadStatus: { by: ADMIN },
  tokenList: { by: ADMIN },
  tokenCreate: { by: ADMIN, body: { name: "nobody", scope: "read" } },
  tokenRevoke: { by: ADMIN },
};
