import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { after, before, describe, test } from "node:test";
import { generateTenantId } from "../../src/common/id.ts";
import { parseLsn } from "../../src/common/lsn.ts";
import { childOutput } from "../harness/child_output.ts";
import type { Connection, Row } from "../harness/connection.ts";
import { ZenithEnv } from "../harness/zenith_env.ts";

let env: ZenithEnv;
let wire: Connection;

before(async () => {
  env = await ZenithEnv.create();
  wire = await env.pageserver.connect();
});
after(async () => {
  await wire.close();
  await env[Symbol.asyncDispose]();
});

/** The system's: Debian's package is for that one. */
const PYTHON = "/usr/bin/python3";
const HAS_PSYCOPG2 = spawnSync(PYTHON, ["-c", "import psycopg2"], { stdio: "ignore" }).status === 0;
const NO_PSYCOPG2 = "Debian's python3-psycopg2 is not installed";

const ID = /^[0-9a-f]{32}$/;

function branches(tenant: string): Promise<Row[]> {
  return wire.json(`branch_list ${tenant}`) as Promise<Row[]>;
}

function failure(command: string): Promise<{ code: string; message: string }> {
  return wire.query(command).then(
    () => assert.fail(`${command} was accepted`),
    (error: { code: string; message: string }) => error,
  );
}

describe("the page server's commands", () => {
  test("every list is one row with one column of JSON, those of 2021 as text", async () => {
    for (
      const [command, type] of [
        ["status", "object"],
        ["tenant_list", "string"],
        [`branch_list ${env.defaultTenant}`, "string"],
        [`branch_create ${env.defaultTenant} as_text main`, "string"],
      ] as const
    ) {
      const rows = await wire.query(command);
      assert.equal(rows.length, 1, command);
      assert.equal(Object.keys(rows[0]).length, 1, command);
      const [value] = Object.values(rows[0]);
      assert.equal(typeof value, type, command);
      if (typeof value === "string") assert.equal(typeof JSON.parse(value), "object");
    }
    await wire.query(`branch_delete ${env.defaultTenant} as_text`);
  });

  test(
    "those of 2021 are read by psycopg2 and json.loads, as then",
    { skip: !HAS_PSYCOPG2 && NO_PSYCOPG2 },
    async () => {
      const tenant = generateTenantId();
      const script = `
import json, sys, psycopg2
host, port, password, tenant = sys.argv[1:]
connection = psycopg2.connect(host=host, port=port, user="zenith", password=password, dbname="zenith")
connection.autocommit = True
cursor = connection.cursor()
def ask(command):
    cursor.execute(command)
    [[value]] = cursor.fetchall()
    return json.loads(value)
cursor.execute(f"tenant_create {tenant}")
assert tenant in ask("tenant_list")
made = ask(f"branch_create {tenant} dev main")
branches = ask(f"branch_list {tenant}")
cursor.execute(f"do_gc {tenant} {made['timeline_id']}")
without = dict(zip([column.name for column in cursor.description], cursor.fetchone()))
cursor.execute(f"do_gc {tenant} {made['timeline_id']} 0")
print(json.dumps({"made": made["name"], "branches": [branch["name"] for branch in branches], "gc": list(without)}))
`;
      const { host, port } = env.pageserver.address;
      const python = await childOutput(
        spawn(PYTHON, ["-c", script, host, String(port), env.token, tenant], {
          stdio: ["ignore", "pipe", "pipe"],
        }),
      );
      assert.equal(python.code, 0, python.stderr);
      const { made, branches, gc } = JSON.parse(python.stdout) as Record<string, unknown>;
      assert.equal(made, "dev");
      assert.deepEqual(branches, ["dev", "main"]);
      assert.ok((gc as string[]).includes("layers_removed"));
      await wire.query(`tenant_delete ${tenant}`);
    },
  );

  test("branch_get describes one branch as the list does, by name or timeline", async () => {
    const tenant = env.defaultTenant;
    const [main] = await branches(tenant);
    assert.deepEqual(await wire.json(`branch_get ${tenant} main`), main);
    assert.deepEqual(await wire.json(`branch_get ${tenant} ${main!["timeline_id"]}`), main);
    for (const name of ["nosuch", "0".repeat(32)]) {
      const { code, message } = await failure(`branch_get ${tenant} ${name}`);
      assert.equal(code, "42704");
      assert.match(message, new RegExp(name));
    }
  });

  test("tenant_create makes a tenant with a main branch", async () => {
    const tenant = generateTenantId();
    await wire.query(`tenant_create ${tenant}`);
    assert.ok((await wire.json("tenant_list") as string[]).includes(tenant));
    const [main, ...others] = await branches(tenant);
    assert.deepEqual(others, []);
    assert.equal(main!["name"], "main");
    assert.match(String(main!["timeline_id"]), ID);
    assert.equal(main!["ancestor_id"], null);
    assert.equal(main!["ancestor_lsn"], null);
    assert.ok(parseLsn(String(main!["latest_valid_lsn"])) > 0);
  });

  test("tenant_create of an existing tenant says so", async () => {
    const error = await failure(`tenant_create ${env.defaultTenant}`);
    assert.equal(error.message, `repo for ${env.defaultTenant} already exists`);
  });

  test("branch_create takes a branch, a branch@LSN and a timeline@LSN", async () => {
    const tenant = env.defaultTenant;
    const main = (await branches(tenant)).find((branch) => branch["name"] === "main")!;
    const lsn = main["latest_valid_lsn"];
    for (
      const [name, start] of [["a", "main"], ["b", `main@${lsn}`], ["c", `${main["timeline_id"]}@${lsn}`]]
    ) {
      const created = await wire.json(`branch_create ${tenant} ${name} ${start}`) as Row;
      assert.equal(created["name"], name);
      assert.match(String(created["timeline_id"]), ID);
      assert.equal(created["ancestor_id"], main["timeline_id"]);
      assert.equal(created["ancestor_lsn"], lsn);
      assert.equal(created["latest_valid_lsn"], lsn);
    }
    assert.deepEqual((await branches(tenant)).map((branch) => branch["name"]).sort(), [
      "a",
      "b",
      "c",
      "main",
    ]);
  });

  test("what is wrong is an error with a code, and the connection goes on", async () => {
    const unknown = generateTenantId();
    const tenant = env.defaultTenant;
    const cases: [command: string, code: string, message: RegExp][] = [
      ["fly me", "22023", /fly/],
      ["branch_list", "22023", /branch_list/],
      ["branch_list nonsense", "22023", /nonsense/],
      [`branch_list ${unknown}`, "42704", new RegExp(unknown)],
      [`branch_create ${tenant} x nowhere`, "42704", /nowhere/],
      [`branch_create ${tenant} main main`, "42710", /main/],
      [`branch_create ${tenant} x main@zzz`, "22023", /zzz/],
      [`branch_create ${tenant} x main@7F/0`, "22003", /7F\/0/],
      [`branch_create ${tenant} ../x main`, "22023", /\.\.\/x/],
      [`basebackup ${tenant} ${unknown}`, "42704", new RegExp(unknown)],
    ];
    for (const [command, code, message] of cases) {
      const error = await failure(command);
      assert.match(error.message, message, command);
      assert.equal(error.code, code, `${command}: ${error.message}`);
    }
    assert.equal((await wire.query("status")).length, 1);
  });

  test("another tenant's timeline is not found through one's own tenant", async () => {
    const other = await env.createTenant();
    const [theirs] = await branches(other);
    const error = await failure(`basebackup ${env.defaultTenant} ${theirs!["timeline_id"]}`);
    assert.equal(error.code, "42704");
  });
});
