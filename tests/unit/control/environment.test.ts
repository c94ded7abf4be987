import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, test } from "node:test";
import { freePort } from "../../harness/ports.ts";
import { formatHostPort } from "../../../src/common/host_port.ts";
import { parseTenantId } from "../../../src/common/id.ts";
import { EnvironmentPaths } from "../../../src/common/paths.ts";
import {
  chooseTenant,
  environmentRoot,
  hasLocalPageServer,
  loadEnvironment,
  pageServerAddress,
  parsePageServerUrl,
  saveEnvironment,
} from "../../../src/control/environment.ts";
import {
  allocatePort,
  computePortRange,
  isPortFree,
  portsFrom,
  randomFirstPort,
} from "../../../src/control/ports.ts";
import { listSafekeepers } from "../../../src/control/safekeepers.ts";

const TENANT = parseTenantId("00000000000000000000000000000001");

let root: string;

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "zenith-environment-"));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

describe("an environment", () => {
  test("is saved and loaded, with a page server of its own", () => {
    const environment = {
      paths: new EnvironmentPaths(root),
      config: { default_tenant_id: TENANT, pageserver: { listen: "127.0.0.1:64007" } },
    };
    saveEnvironment(environment);
    const loaded = loadEnvironment(root);
    assert.equal(loaded.config.default_tenant_id, TENANT);
    assert.equal(hasLocalPageServer(loaded), true);
    const credentials = {
      tokenFile: join(root, "auth/tokens/admin"),
      caFile: join(root, "auth/tls/ca.pem"),
    };
    assert.deepEqual(pageServerAddress(loaded), { host: "127.0.0.1", port: 64007, credentials });
    assert.equal(chooseTenant(loaded, undefined), TENANT);
    assert.equal(chooseTenant(loaded, "AB".repeat(16)), "ab".repeat(16));
    assert.throws(() => chooseTenant(loaded, "../.."), /is not a tenant id/);
  });

  test("can have a remote page server", () => {
    writeFileSync(
      join(root, "config"),
      `default_tenant_id = "${TENANT}"\n[pageserver]\nurl = "postgres://storage.example.org"\n`,
    );
    const loaded = loadEnvironment(root);
    assert.equal(hasLocalPageServer(loaded), false);
    assert.equal(formatHostPort(pageServerAddress(loaded)), "storage.example.org:64000");
  });

  test("refuses two safekeepers with one number, or with one address", () => {
    const write = (second: string) =>
      writeFileSync(
        join(root, "config"),
        `default_tenant_id = "${TENANT}"\n[pageserver]\nlisten = "127.0.0.1:64000"\n` +
          `[[safekeepers]]\nid = 1\nlisten = "127.0.0.1:5454"\n[[safekeepers]]\n${second}\n`,
      );
    write('id = 2\nlisten = "127.0.0.1:5455"');
    assert.deepEqual(
      listSafekeepers(loadEnvironment(root)).map(({ id, address, running }) => [id, address.port, running]),
      [
        [1, 5454, false],
        [2, 5455, false],
      ],
    );
    write('id = 1\nlisten = "127.0.0.1:5455"');
    assert.throws(() => loadEnvironment(root), /two safekeepers have one id/);
    write('id = 2\nlisten = "127.0.0.1:5454"');
    assert.throws(() => loadEnvironment(root), /two safekeepers listen on one port/);
  });

  test("that is not there is an error with a hint", () => {
    assert.throws(() => loadEnvironment(join(root, "nowhere")), /there is no Zenith environment/);
  });

  test("with an unknown key or a wrong id in its config is refused by key and file", () => {
    const write = (text: string) => writeFileSync(join(root, "config"), text);
    write(`default_tenant_id = "${TENANT}"\ncolour = "red"\n[pageserver]\nlisten = "127.0.0.1:1"\n`);
    assert.throws(() => loadEnvironment(root), /config: unknown key "colour"/);
    write('default_tenant_id = "short"\n[pageserver]\nlisten = "127.0.0.1:1"\n');
    assert.throws(() => loadEnvironment(root), /"short" is not a tenant id/);
  });

  test("is where ZENITH_REPO_DIR says, else in .zenith", () => {
    assert.equal(environmentRoot({ ZENITH_REPO_DIR: "/srv/zenith" }), "/srv/zenith");
    assert.equal(environmentRoot({}), join(process.cwd(), ".zenith"));
  });

  test("page server URLs other than postgres://host:port are refused", () => {
    assert.deepEqual(parsePageServerUrl("postgres://127.0.0.1:65000/"), [{ host: "127.0.0.1", port: 65000 }]);
    assert.deepEqual(parsePageServerUrl("postgres://a:1,b"), [{ host: "a", port: 1 }, {
      host: "b",
      port: 64000,
    }]);
    assert.deepEqual(parsePageServerUrl("postgresql://[::1]:65000"), [{ host: "::1", port: 65000 }]);
    for (const url of ["http://x:1", "postgres://", "postgres://u@h:1", "postgres://h:1/db", "h:1"]) {
      assert.throws(() => parsePageServerUrl(url), /page server's URL|expected host:port/, url);
    }
  });
});

describe("ports", () => {
  test("that others listen on, or that are spoken for, are skipped", async () => {
    const server = createServer();
    // Not one of the kernel's choice: computes get none that the kernel gives to clients.
    const port = await freePort();
    await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve));
    assert.equal(await isPortFree(port), false);
    const next = await allocatePort(new Set([port + 1]), portsFrom(port));
    assert.ok(next > port + 1);
    assert.ok(await allocatePort(new Set(), portsFrom(64000)) >= 64000, "above the range, too");
    await new Promise((resolve) => server.close(resolve));
    assert.equal(await isPortFree(port), true);
  });

  test("of computes come from a range that the environment may name", async () => {
    assert.deepEqual(computePortRange({}), { first: 15432, last: 32767 });
    assert.deepEqual(computePortRange({ ZENITH_PG_PORTS: "" }), { first: 15432, last: 32767 });
    const range = computePortRange({ ZENITH_PG_PORTS: "20001-20002" });
    assert.deepEqual(range, { first: 20001, last: 20002 });
    const { first, last } = computePortRange();
    const random = randomFirstPort();
    assert.ok(random >= first && random <= (first + last) / 2, `${random}`);
    await assert.rejects(
      allocatePort(new Set([20001, 20002]), range),
      /no free port between 20001 and 20002/,
    );
    for (const wrong of ["1", "2-1", "0-9", "1-65536", "a-b", "1-2-3"]) {
      const given = { ZENITH_PG_PORTS: wrong };
      assert.throws(() => computePortRange(given), /ZENITH_PG_PORTS is ".*": expected FIRST-LAST/, wrong);
    }
  });
});
