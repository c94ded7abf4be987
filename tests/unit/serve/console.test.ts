import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { gunzipSync } from "node:zlib";
import { LIST_FILE } from "../../../src/serve/console/assets.ts";
import { ConsoleSite, rootSite } from "../../../src/serve/console/console.ts";
import type { HttpRequest } from "../../../src/serve/http/request.ts";

const root = mkdtempSync(join(tmpdir(), "zenith-console-"));
after(() => rmSync(root, { recursive: true }));
writeFileSync(join(root, "index.html"), "<p>index</p>");
writeFileSync(join(root, "index-1a2b.js"), "run()");
writeFileSync(join(root, "secret.txt"), "not in the list");
writeFileSync(join(root, LIST_FILE), JSON.stringify(["index.html", "index-1a2b.js"]));

const site = new ConsoleSite(root);

/** @param path below `/console` */
function request(path: string, more: Partial<HttpRequest> = {}): HttpRequest {
  return {
    id: "a test",
    method: "GET",
    path: ["console", ...path === "" ? [] : path.split("/")],
    query: new URLSearchParams(),
    headers: {},
    address: "127.0.0.1",
    port: 1,
    signal: new AbortController().signal,
    body: () => Promise.resolve(Buffer.alloc(0)),
    ...more,
  };
}

const text = (body: unknown): string => Buffer.from(body as Uint8Array).toString();

describe("the console's files", () => {
  test("are its index, for every page of it", async () => {
    for (const path of ["", "health", "t/0123/branches/br-a.b", "index.html"]) {
      const { status, body, headers } = await site.handle(request(path));
      assert.equal(status, 200);
      assert.equal(text(body), "<p>index</p>");
      assert.equal(headers!["cache-control"], "no-cache");
    }
  });

  test("are kept for ever by a browser when their names have a hash, and come packed", async () => {
    const { body, headers } = await site.handle(
      request("index-1a2b.js", { headers: { "accept-encoding": "br, gzip" } }),
    );
    assert.equal(headers!["content-encoding"], "gzip");
    assert.equal(gunzipSync(body as Uint8Array).toString(), "run()");
    assert.match(headers!["cache-control"]!, /immutable/);
    assert.equal(headers!["content-type"], "text/javascript; charset=utf-8");
  });

  test("run nothing that is inline or from elsewhere", async () => {
    const { headers } = await site.handle(request(""));
    const policy = headers!["content-security-policy"]!;
    assert.match(policy, /default-src 'none'/);
    assert.match(policy, /frame-ancestors 'none'/);
    assert.doesNotMatch(policy, /unsafe|\*|https?:/);
  });

  test("are those of the list, and no others", async () => {
    for (const path of ["secret.txt", "files.json", "..", "../../etc/passwd.txt", "%2e%2e.js"]) {
      await assert.rejects(site.handle(request("", { path: ["console", path] })), { status: 404 }, path);
    }
  });

  test("are read, not changed", async () => {
    await assert.rejects(site.handle(request("", { method: "POST" })), { status: 405 });
    await assert.rejects(rootSite().handle(request("", { method: "DELETE" })), { status: 405 });
  });

  test("are missing in a checkout that nobody has built, which is said", async () => {
    await assert.rejects(new ConsoleSite(join(root, "none")).handle(request("")), {
      status: 501,
      message: /npm run build/,
    });
  });
});

test("the root leads to the console", async () => {
  const { status, headers } = await rootSite().handle(request("", { path: [""] }));
  assert.deepEqual([status, headers!["location"]], [302, "/console"]);
});
