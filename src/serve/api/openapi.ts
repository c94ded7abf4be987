/** The API in OpenAPI 3.1, made from the contract. `docs/openapi.json` is what this makes. */
import { toJsonSchema } from "@valibot/to-json-schema";
import type { GenericSchema } from "valibot";
import { VERSION } from "../../common/version.ts";
import type { Route } from "../http/routes.ts";
import type { Site } from "../http/server.ts";
import { API } from "./contract.ts";

type Json = Record<string, unknown>;

const ERROR: Json = {
  type: "object",
  required: ["code", "message", "request_id", "hint"],
  properties: {
    code: { type: "string" },
    message: { type: "string" },
    request_id: { type: "string" },
    hint: { type: ["string", "null"] },
  },
};

/** The description of the whole API. */
export function openapi(): Json {
  const paths: Record<string, Json> = {};
  for (const route of Object.values(API) as Route[]) {
    (paths[route.path] ??= {})[route.method.toLowerCase()] = operationOf(route);
  }
  return {
    openapi: "3.1.0",
    info: { title: "Zenith", version: VERSION, description: "docs/serve.md explains it" },
    servers: [{ url: "/v1" }],
    security: [{ token: [] }],
    paths,
    components: {
      securitySchemes: { token: { type: "http", scheme: "bearer", bearerFormat: "JWT" } },
      schemas: { Error: ERROR },
    },
  };
}

function operationOf(route: Route): Json {
  const { name, summary, access, path, query, body, result, method, changes } = route;
  const status = result === undefined ? "204" : method === "POST" && changes ? "201" : "200";
  return {
    operationId: name,
    summary,
    "x-access": access,
    parameters: [
      ...[...path.matchAll(/\{(\w+)\}/g)].map(([, param]) => ({
        name: param,
        in: "path",
        required: true,
        schema: { type: "string" },
      })),
      ...queryOf(query),
      ...(changes
        ? [{ name: "Idempotency-Key", in: "header", schema: { type: "string", maxLength: 255 } }]
        : []),
    ],
    ...(body === undefined ? {} : { requestBody: { content: json(schemaOf(body)) } }),
    responses: {
      [status]: {
        description: "done",
        ...(result === undefined ? {} : { content: json(schemaOf(result)) }),
      },
      default: { description: "an error", content: json({ $ref: "#/components/schemas/Error" }) },
    },
  };
}

function queryOf(schema: GenericSchema | undefined): Json[] {
  if (schema === undefined) return [];
  const { properties = {}, required = [] } = schemaOf(schema) as {
    properties?: Record<string, Json>;
    required?: string[];
  };
  return Object.entries(properties).map(([name, property]) => ({
    name,
    in: "query",
    ...(required.includes(name) ? { required: true } : {}),
    schema: property,
  }));
}

function schemaOf(schema: GenericSchema): Json {
  // As it is sent. Checks that are code have no counterpart.
  const made = toJsonSchema(schema, { errorMode: "ignore", typeMode: "input" }) as Json;
  const { $schema: _, ...rest } = made;
  return rest;
}

function json(schema: Json): Json {
  return { "application/json": { schema } };
}

/** Everybody may read what there is to ask for. */
export function openapiSite(): Site {
  return {
    at: ["openapi.json"],
    handle: () => Promise.resolve({ status: 200, body: openapi() }),
  };
}
