/**
 * The part of Neon's API v2 that its clients use: each request, with who may make it. A project is
 * a tenant, an endpoint a branch's compute. docs/serve.md lists what is taken and what is not.
 */
import {
  array,
  boolean,
  looseObject,
  nullable,
  number,
  optional,
  picklist,
  pipe,
  record,
  regex,
  string,
} from "valibot";
import type { Route } from "../http/routes.ts";

const LSN = pipe(string(), regex(/^[0-9A-Fa-f]{1,8}\/[0-9A-Fa-f]{1,8}$/, "expected an LSN"));
const TIME = string();
const QUERY = record(string(), string());

const SettingsSchema = looseObject({
  allowed_ips: optional(looseObject({ ips: optional(array(string())) })),
});

function get<const P extends string>(name: string, path: P, access: Route["access"] = "read") {
  return { name, method: "GET", path, access, summary: "", query: QUERY, changes: false } as const;
}

function change<const R extends Pick<Route, "name" | "method" | "path" | "access">>(route: R) {
  return { ...route, summary: "", changes: true } as const;
}

const PROJECT = "/projects/{tenant}";
const BRANCH = `${PROJECT}/branches/{branch}` as const;
const ENDPOINT = `${PROJECT}/endpoints/{endpoint}` as const;

export const NEON = {
  me: get("me", "/users/me", null),
  organizations: get("organizations", "/users/me/organizations", null),
  regions: get("regions", "/regions", null),
  projectList: get("project_list", "/projects", null),
  projectShared: get("project_shared", "/projects/shared", null),
  projectCreate: {
    ...change({ name: "project_create", method: "POST", path: "/projects", access: "admin" }),
    body: looseObject({
      project: looseObject({
        name: optional(string()),
        pg_version: optional(number()),
        settings: optional(SettingsSchema),
        history_retention_seconds: optional(number()),
        branch: optional(looseObject({
          name: optional(string()),
          role_name: optional(string()),
          database_name: optional(string()),
        })),
      }),
    }),
  },
  projectGet: get("project_get", PROJECT),
  projectUpdate: {
    ...change({ name: "project_update", method: "PATCH", path: PROJECT, access: "tenant" }),
    body: looseObject({
      project: looseObject({
        name: optional(string()),
        settings: optional(SettingsSchema),
        history_retention_seconds: optional(number()),
      }),
    }),
  },
  projectDelete: change({ name: "project_delete", method: "DELETE", path: PROJECT, access: "admin" }),
  operationList: get("operation_list", `${PROJECT}/operations`),
  operationGet: get("operation_get", `${PROJECT}/operations/{operation}`),
  connectionUri: get("connection_uri", `${PROJECT}/connection_uri`, "tenant"),
  branchList: get("branch_list", `${PROJECT}/branches`),
  branchCreate: {
    ...change({ name: "branch_create", method: "POST", path: `${PROJECT}/branches`, access: "tenant" }),
    body: looseObject({
      branch: optional(looseObject({
        name: optional(string()),
        parent_id: optional(string()),
        parent_lsn: optional(LSN),
        parent_timestamp: optional(TIME),
        protected: optional(boolean()),
        init_source: optional(string()),
        expires_at: optional(TIME),
      })),
      endpoints: optional(array(looseObject({
        type: optional(string()),
        suspend_timeout_seconds: optional(number()),
      }))),
    }),
  },
  branchGet: get("branch_get", BRANCH),
  branchUpdate: {
    ...change({ name: "branch_update", method: "PATCH", path: BRANCH, access: "tenant" }),
    body: looseObject({
      branch: looseObject({
        name: optional(string()),
        protected: optional(boolean()),
        expires_at: optional(nullable(TIME)),
      }),
    }),
  },
  branchDelete: change({ name: "branch_delete", method: "DELETE", path: BRANCH, access: "tenant" }),
  branchSetDefault: change({
    name: "branch_set_default",
    method: "POST",
    path: `${BRANCH}/set_as_default`,
    access: "tenant",
  }),
  branchRestore: {
    ...change({ name: "branch_restore", method: "POST", path: `${BRANCH}/restore`, access: "tenant" }),
    body: looseObject({
      source_branch_id: string(),
      source_lsn: optional(LSN),
      source_timestamp: optional(TIME),
      preserve_under_name: optional(string()),
    }),
  },
  // It starts a Postgres, and may make one of a moment.
  branchSchema: get("branch_schema", `${BRANCH}/schema`, "tenant"),
  branchEndpoints: get("branch_endpoints", `${BRANCH}/endpoints`),
  // They wake the branch's Postgres.
  databaseList: get("database_list", `${BRANCH}/databases`, "tenant"),
  databaseGet: get("database_get", `${BRANCH}/databases/{database}`, "tenant"),
  databaseCreate: {
    ...change({ name: "database_create", method: "POST", path: `${BRANCH}/databases`, access: "tenant" }),
    body: looseObject({ database: looseObject({ name: string(), owner_name: string() }) }),
  },
  databaseDelete: change({
    name: "database_delete",
    method: "DELETE",
    path: `${BRANCH}/databases/{database}`,
    access: "tenant",
  }),
  roleList: get("role_list", `${BRANCH}/roles`, "tenant"),
  roleGet: get("role_get", `${BRANCH}/roles/{role}`, "tenant"),
  roleCreate: {
    ...change({ name: "role_create", method: "POST", path: `${BRANCH}/roles`, access: "tenant" }),
    body: looseObject({ role: looseObject({ name: string(), no_login: optional(boolean()) }) }),
  },
  roleDelete: change({
    name: "role_delete",
    method: "DELETE",
    path: `${BRANCH}/roles/{role}`,
    access: "tenant",
  }),
  rolePassword: get("role_password", `${BRANCH}/roles/{role}/reveal_password`, "tenant"),
  roleResetPassword: change({
    name: "role_reset_password",
    method: "POST",
    path: `${BRANCH}/roles/{role}/reset_password`,
    access: "tenant",
  }),
  endpointList: get("endpoint_list", `${PROJECT}/endpoints`),
  endpointCreate: {
    ...change({ name: "endpoint_create", method: "POST", path: `${PROJECT}/endpoints`, access: "tenant" }),
    body: looseObject({
      endpoint: looseObject({
        branch_id: string(),
        type: optional(picklist(["read_write", "read_only"]), "read_write"),
        suspend_timeout_seconds: optional(number()),
      }),
    }),
  },
  endpointGet: get("endpoint_get", ENDPOINT),
  endpointUpdate: {
    ...change({ name: "endpoint_update", method: "PATCH", path: ENDPOINT, access: "tenant" }),
    body: looseObject({ endpoint: looseObject({ suspend_timeout_seconds: optional(number()) }) }),
  },
  endpointDelete: change({ name: "endpoint_delete", method: "DELETE", path: ENDPOINT, access: "tenant" }),
  endpointStart: change({
    name: "endpoint_start",
    method: "POST",
    path: `${ENDPOINT}/start`,
    access: "tenant",
  }),
  endpointSuspend: change({
    name: "endpoint_suspend",
    method: "POST",
    path: `${ENDPOINT}/suspend`,
    access: "tenant",
  }),
} as const;
