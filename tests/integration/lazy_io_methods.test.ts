/**
 * PostgreSQL 18 reads by one of several methods: the session itself, I/O worker processes, or
 * io_uring where the build has it. Reads are vectored, and several are under way at once; a lazy
 * mount has to give the same bytes to each.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { ACCOUNTS_CONTENT, createAccounts } from "../harness/accounts.ts";
import { addSettings, branchHere } from "../harness/branching.ts";
import { dropPageCacheOf } from "../harness/lazy_files.ts";
import { amcheck } from "../harness/programs.ts";
import { type Compute, ZenithEnv } from "../harness/zenith_env.ts";

const MAJOR = 18;
const ROWS = 20_000;
/** A small cache, so that everything is read again and again. */
const SETTINGS = [
  "shared_buffers = '2MB'",
  "effective_io_concurrency = 64",
  "maintenance_io_concurrency = 64",
  "io_max_combine_limit = '1MB'",
];
/** Bytes that one read may ask for at most: a block, the default, and as much as there may be. */
const COMBINE_LIMITS = ["8kB", "128kB", "1MB"];
/** Reads through a bitmap, which skips blocks. */
const SPARSE = "SELECT sum(id) || ' ' || sum(length(filler)) FROM accounts WHERE sparse = 7";

let env: ZenithEnv;
let main: Compute;
let methods: string[];
let content: unknown;
let sparse: unknown;

before(async () => {
  env = await ZenithEnv.create({ storage: "lazy", major: MAJOR });
  main = await env.createCompute("main");
  addSettings(main, ...SETTINGS);
  await main.start();
  await createAccounts(main, ROWS);
  await main.query("ALTER TABLE accounts ADD COLUMN sparse int");
  await main.query("UPDATE accounts SET sparse = (id / 10) % 10");
  await main.query("CREATE INDEX ON accounts (sparse)");
  await main.query("VACUUM ANALYZE accounts");
  content = await main.value(ACCOUNTS_CONTENT);
  sparse = await main.value(SPARSE);
  const values = await main.value(
    "SELECT array_to_string(enumvals, ' ') FROM pg_settings WHERE name = 'io_method'",
  );
  methods = String(values).split(" ");
});
after(() => env[Symbol.asyncDispose]());

/** The next reads of the table and its indexes reach the mount again. */
async function forget(compute: Compute): Promise<void> {
  const files = await compute.query(
    "SELECT pg_relation_filepath(oid) AS path FROM pg_class WHERE relname LIKE 'accounts%'",
  );
  for (const { path } of files) dropPageCacheOf(join(compute.paths.pgdata, String(path)));
}

/** Reads everything by sequential, parallel and bitmap scans, of several sessions at once, each from the mount. */
async function readAll(compute: Compute, combineLimit: string): Promise<void> {
  await forget(compute);
  await Promise.all([
    readBy(compute, combineLimit, "SET enable_seqscan = on", ACCOUNTS_CONTENT, content),
    readBy(compute, combineLimit, "SET debug_parallel_query = on", ACCOUNTS_CONTENT, content),
    readBy(compute, combineLimit, "SET enable_seqscan = off", SPARSE, sparse),
  ]);
}

async function readBy(
  compute: Compute,
  combineLimit: string,
  setting: string,
  query: string,
  expected: unknown,
): Promise<void> {
  await using session = await compute.connect();
  await session.query(`SET io_combine_limit = '${combineLimit}'`);
  await session.query(setting);
  assert.equal(await session.value(query), expected);
}

describe("a lazy compute of PostgreSQL 18", () => {
  test("reads the same by every method and in pieces of every size", async () => {
    assert.ok(methods.includes("sync") && methods.includes("worker"), methods.join());
    for (const method of methods) {
      const compute = await branchHere(env, main, `by_${method}`, [...SETTINGS, `io_method = ${method}`]);
      assert.equal(await compute.value("SHOW io_method"), method);
      assert.equal(await compute.value("SHOW data_checksums"), "on");
      for (const limit of COMBINE_LIMITS) await readAll(compute, limit);
      // What has been written comes back too.
      await compute.query("UPDATE accounts SET balance = id");
      await compute.query("CHECKPOINT");
      const changed = await compute.value(ACCOUNTS_CONTENT);
      await forget(compute);
      assert.equal(await compute.value(ACCOUNTS_CONTENT), changed);
      await amcheck(compute, ["postgres"]);
      await compute.stop();
    }
    console.log(`read by ${methods.join(", ")}`);
  });
});
