import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, test } from "node:test";
import { API } from "../../../src/serve/api/contract.ts";
import { HANDLERS } from "../../../src/serve/api/handlers.ts";
import { NEON } from "../../../src/serve/neon/contract.ts";
import { HANDLERS as NEON_HANDLERS } from "../../../src/serve/neon/handlers.ts";
import { openapi } from "../../../src/serve/api/openapi.ts";
import { pageOf, type Route, Routes } from "../../../src/serve/http/routes.ts";
import { API_ROWS, BY } from "../../harness/serve_matrix.ts";

const routes = Object.entries(API) as [keyof typeof API, Route][];

describe("the contract of /v1", () => {
  test("has a handler and a row in the matrix for each route", () => {
    assert.deepEqual(Object.keys(HANDLERS).sort(), Object.keys(API).sort());
    assert.deepEqual(Object.keys(API_ROWS).sort(), Object.keys(API).sort());
    for (const [key, { access }] of routes) {
      assert.deepEqual(API_ROWS[key].by, BY[(access ?? "read") as keyof typeof BY], key);
    }
  });

  test("asks for more than a tenant's token where a path names no tenant", () => {
    for (const [key, { access, path }] of routes) {
      // It says nothing but what the token does.
      if (key === "session") assert.equal(access, null);
      else assert.ok(access !== null && (access === "admin" || path.startsWith("/tenants/{tenant}")), key);
    }
  });

  test("has each method and path once", () => {
    const all = routes.map(([, { method, path }]) => `${method} ${path.replace(/\{\w+\}/g, "{}")}`);
    assert.equal(new Set(all).size, all.length);
    assert.equal(new Set(routes.map(([, { name }]) => name)).size, routes.length);
  });

  test("is what docs/openapi.json says: bun scripts/openapi.ts writes that", () => {
    const file = new URL("../../../docs/openapi.json", import.meta.url);
    assert.deepEqual(JSON.parse(readFileSync(file, "utf8")), JSON.parse(JSON.stringify(openapi())));
  });
});

describe("the contract of Neon's API", () => {
  /** Requests about the caller, whose answers are made for it. */
  const OF_EVERYBODY = ["me", "organizations", "regions", "projectList", "projectShared"];

  test("has a handler for each route, and asks for access wherever a path names a tenant", () => {
    assert.deepEqual(Object.keys(NEON_HANDLERS).sort(), Object.keys(NEON).sort());
    for (const [key, { access, path }] of Object.entries(NEON) as [string, Route][]) {
      if (OF_EVERYBODY.includes(key)) assert.equal(access, null);
      else assert.ok(access !== null && (access === "admin" || path.startsWith("/projects/{tenant}")), key);
    }
  });
});

describe("routes", () => {
  const all = new Routes(routes.map(([, route]) => route));

  test("are found by their segments, whatever is in them", () => {
    const { route, params } = all.match("GET", ["tenants", "a", "branches", "b/c"]);
    assert.equal(route.name, "branch_get");
    assert.deepEqual(params, { tenant: "a", branch: "b/c" });
    const odd = all.match("GET", ["tenants", "__proto__"]).params;
    assert.equal(odd["tenant"], "__proto__");
    assert.equal(Object.getPrototypeOf(odd), Object.prototype);
  });

  test("say which methods there are", () => {
    assert.throws(() => all.match("POST", ["tenants", "a"]), {
      status: 405,
      headers: { allow: "GET, PATCH, DELETE" },
    });
    for (const path of [[], [""], ["tenants", ""], ["tenants", "a", "b", "c", "d", "e", "f"]]) {
      assert.throws(() => all.match("GET", path), { status: 404 });
    }
  });
});

describe("a page", () => {
  test("goes on after the last item of the one before, though lists change", () => {
    const first = pageOf(["c", "a", "b", "d"], (text) => text, 2, undefined);
    assert.deepEqual(first.items, ["a", "b"]);
    const second = pageOf(["a", "c", "d", "aa"], (text) => text, 2, first.next!);
    assert.deepEqual(second, { items: ["c", "d"], next: null });
    assert.deepEqual(pageOf(["a"], (text) => text, 2, Buffer.from("z").toString("base64url")).items, []);
  });
});
