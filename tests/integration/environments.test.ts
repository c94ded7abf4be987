/** Environments side by side on one host, made as a person makes them: each has ports that no other one gets. */
import assert from "node:assert/strict";
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { runZenith } from "../harness/cli.ts";

let dir: string;

before(() => {
  dir = mkdtempSync(join(tmpdir(), "zenith-environments-"));
  chmodSync(dir, 0o755);
});
after(() => rmSync(dir, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 }));

/** Types a command in an environment. Its user's home is the test's own. */
async function zenith(name: string, ...args: string[]): Promise<string> {
  const variables = { ZENITH_REPO_DIR: join(dir, name), XDG_STATE_HOME: join(dir, "state") };
  const { code, stdout, stderr } = await runZenith(args, variables);
  assert.equal(code, 0, `zenith ${args.join(" ")}: ${stderr}`);
  return stdout;
}

const LISTEN = /127\.0\.0\.1:(\d+)/g;

function portsIn(text: string): string[] {
  return Array.from(text.matchAll(LISTEN), ([, port]) => port);
}

/** Makes an environment. @returns the ports that it has chosen for its servers */
async function init(name: string): Promise<string[]> {
  await zenith(name, "init", "--pg-version", "15");
  const ports = portsIn(readFileSync(join(dir, name, "config"), "utf8"));
  assert.equal(ports.length, 2, "a page server and a safekeeper");
  return ports;
}

describe("environments on one host", () => {
  test("get ports of their own while none of them runs, and so does every Postgres", async () => {
    const one = await init("one");
    await zenith("one", "start");
    const [postgresOfOne] = portsIn(await zenith("one", "pg", "create", "main", "--json"));
    await zenith("one", "stop");
    const two = await init("two");
    assert.deepEqual(two.filter((port) => one.includes(port)), []);
    await zenith("two", "start");
    const [postgresOfTwo] = portsIn(await zenith("two", "pg", "create", "main", "--json"));
    assert.notEqual(postgresOfTwo, postgresOfOne);
    // Both run at once then.
    for (const name of ["one", "two"]) await zenith(name, "up");
    assert.deepEqual(portsIn(await zenith("one", "uri")), [postgresOfOne]);
    assert.deepEqual(portsIn(await zenith("two", "uri")), [postgresOfTwo]);
    for (const name of ["one", "two"]) await zenith(name, "stop");
    // What is removed holds nothing back.
    rmSync(join(dir, "one"), { recursive: true });
    assert.deepEqual(await init("three"), one);
    assert.equal(readdirSync(join(dir, "state", "zenith", "environments")).length, 2);
  });

  test("find a busy --listen when they are made", async () => {
    const other = createServer();
    await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
    const { port } = other.address() as { port: number };
    try {
      const variables = { ZENITH_REPO_DIR: join(dir, "busy") };
      const refused = await runZenith(["init", "--listen", `127.0.0.1:${port}`], variables);
      assert.equal(refused.code, 5);
      assert.match(refused.stderr, new RegExp(`127.0.0.1:${port} is in use by process ${process.pid} `));
    } finally {
      other.close();
    }
  });

  test("are made where nothing can be remembered", async () => {
    const variables = { ZENITH_REPO_DIR: join(dir, "four"), XDG_STATE_HOME: "/proc/nowhere" };
    const made = await runZenith(["init"], variables);
    assert.equal(made.code, 0, made.stderr);
  });
});
