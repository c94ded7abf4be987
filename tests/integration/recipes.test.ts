/** What docs/recipes.md tells people to copy, run: shell steps of the CI files, and the tools of examples/ themselves. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { chmodSync, existsSync, mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { after, before, describe, test } from "node:test";
import { YAML } from "bun";
import { type ChildOutput, childOutput } from "../harness/child_output.ts";
import { zenithCommand } from "../harness/cli.ts";
import { type Compute, ZenithEnv } from "../harness/zenith_env.ts";

const EXAMPLES = join(import.meta.dirname, "..", "..", "examples");
const TOOLS = join(EXAMPLES, "node_modules", ".bin");
const skip = !existsSync(join(TOOLS, "vitest")) && '"npm run examples" fetches what they need';

let env: ZenithEnv;
let main: Compute;

before(async () => {
  env = await ZenithEnv.create();
  main = await env.startCompute("main");
  await main.query("CREATE TABLE customers (id int PRIMARY KEY, email text NOT NULL)");
  await main.query("INSERT INTO customers SELECT i, i || '@example.com' FROM generate_series(1, 100) i");
  const zenith = join(env.dir, "zenith");
  writeFileSync(zenith, `#!/bin/sh\nexec ${zenithCommand().join(" ")} "$@"\n`);
  chmodSync(zenith, 0o755);
});
after(() => env[Symbol.asyncDispose]());

type Variables = Readonly<Record<string, string>>;

/** Runs a program that finds `zenith` on its path, and the environment by ZENITH_REPO_DIR. */
function run(command: readonly string[], cwd: string, variables: Variables = {}): Promise<ChildOutput> {
  const path = [env.dir, TOOLS, process.env["PATH"]].join(delimiter);
  const [file, ...args] = command;
  return childOutput(
    spawn(file!, args, {
      cwd,
      env: { ...process.env, PATH: path, ...variables, ZENITH_REPO_DIR: env.repoDir },
      stdio: ["ignore", "pipe", "pipe"],
    }),
  );
}

async function script(lines: string, cwd: string, variables: Variables): Promise<string> {
  const { code, stdout, stderr } = await run(["bash", "-e", "-c", lines], cwd, variables);
  assert.equal(code, 0, `${lines}\n${stdout}${stderr}`);
  return stdout;
}

function example(...path: string[]): string {
  return readFileSync(join(EXAMPLES, ...path), "utf8");
}

/** A checkout that is migrated and tested with nothing but Zenith. */
function project(): string {
  const dir = mkdtempSync(join(env.dir, "project-"));
  const scripts = {
    migrate: `zenith sql "$BRANCH" -c "ALTER TABLE customers ADD COLUMN name text"`,
    test:
      `test "$DATABASE_URL" = "$(zenith uri "$BRANCH")" && zenith sql "$BRANCH" -c "SELECT name FROM customers"`,
  };
  writeFileSync(join(dir, "package.json"), JSON.stringify({ name: "project", version: "1.0.0", scripts }));
  const lock = { name: "project", version: "1.0.0", lockfileVersion: 3, packages: {} };
  writeFileSync(join(dir, "package-lock.json"), JSON.stringify(lock));
  return dir;
}

async function branches(): Promise<string[]> {
  const list = JSON.parse(await env.zenith("branch", "list", "--json")) as { branch: string }[];
  return list.map(({ branch }) => branch);
}

const count = async (branch: string): Promise<string> =>
  (await env.zenith("sql", branch, "--csv", "-c", "SELECT count(*) FROM customers")).split("\n")[1];

/** A branch is made for the first push, has main's newest data at the second, and is deleted in the end. */
async function checkLife(
  branch: string,
  push: () => Promise<string>,
  close: () => Promise<void>,
): Promise<void> {
  const rows = await count("main");
  assert.match(await push(), /^\+ {4}name text$/m);
  assert.deepEqual(await branches(), ["main", branch]);
  assert.equal(await count(branch), rows);
  await main.query("INSERT INTO customers SELECT max(id) + 1, 'later' || max(id) FROM customers");
  await push();
  assert.equal(await count(branch), String(Number(rows) + 1));
  await assert.rejects(main.query("SELECT name FROM customers"), /column "name" does not exist/);
  await close();
  assert.deepEqual(await branches(), ["main"]);
}

test("GitHub Actions: a branch for each pull request", async () => {
  interface Workflow {
    readonly env: Variables;
    readonly jobs: Readonly<Record<string, { readonly steps: readonly { readonly run?: string }[] }>>;
  }
  const text = example("ci", "github-actions.yml").replaceAll("${{ github.event.number }}", "7");
  const workflow = YAML.parse(text) as Workflow;
  const runJob = async (name: string): Promise<string> => {
    const cwd = project();
    const files = { GITHUB_ENV: join(cwd, "env"), GITHUB_STEP_SUMMARY: join(cwd, "summary") };
    for (const file of Object.values(files)) writeFileSync(file, "");
    for (const { run } of workflow.jobs[name].steps) {
      const written = readFileSync(files.GITHUB_ENV, "utf8").trim().split("\n").filter((line) => line !== "");
      const added = Object.fromEntries(written.map((line) => line.split(/=(.*)/s, 2)));
      if (run !== undefined) await script(run, cwd, { ...workflow.env, ...files, ...added });
    }
    return readFileSync(files.GITHUB_STEP_SUMMARY, "utf8");
  };
  await checkLife("pr-7", () => runJob("test"), async () => void await runJob("clean"));
});

test("GitLab: a branch for each merge request", async () => {
  interface Pipeline {
    readonly variables: Variables;
    readonly test: { readonly script: readonly string[] };
    readonly clean: { readonly script: readonly string[] };
  }
  const pipeline = YAML.parse(example("ci", "gitlab-ci.yml")) as Pipeline;
  const BRANCH = pipeline.variables["BRANCH"].replace("$CI_MERGE_REQUEST_IID", "8");
  // A job's lines run in one shell.
  const runJob = (lines: readonly string[]) => script(lines.join("\n"), project(), { BRANCH });
  await checkLife(
    "mr-8",
    () => runJob(pipeline.test.script),
    async () => void await runJob(pipeline.clean.script),
  );
});

/**
 * Migrations run in Prisma's engine in WebAssembly. Its command line still looks for the programs that
 * it would fetch when it is installed, and takes any file for them; it also asks for updates.
 */
const PRISMA: Variables = {
  PRISMA_QUERY_ENGINE_LIBRARY: process.execPath,
  PRISMA_SCHEMA_ENGINE_BINARY: process.execPath,
  PRISMA_HIDE_UPDATE_MESSAGE: "1",
  CHECKPOINT_DISABLE: "1",
};

describe("examples/", { skip }, () => {
  test("Drizzle: a migration is tried on real data before main sees it", async () => {
    const dir = join(EXAMPLES, "drizzle");
    const migrate = ["zenith", "run", "main", "--", "drizzle-kit", "migrate"];
    await main.query("DROP TABLE customers");
    const passes = await run(migrate, dir);
    assert.equal(passes.code, 0, passes.stdout + passes.stderr);
    // The first migration has been run on main, whose data the second one does not fit.
    await main.query(example("drizzle", "migrations", "0000_customers.sql"));
    await main.query("CREATE SCHEMA drizzle");
    await main.query(
      "CREATE TABLE drizzle.__drizzle_migrations (id serial PRIMARY KEY, hash text NOT NULL, created_at bigint)",
    );
    const journal = JSON.parse(example("drizzle", "migrations", "meta", "_journal.json")) as {
      entries: { when: number }[];
    };
    const [first] = journal.entries;
    await main.query(
      `INSERT INTO drizzle.__drizzle_migrations (hash, created_at) VALUES ('first', ${first.when})`,
    );
    await main.query("INSERT INTO customers VALUES (1, 'a@example.com'), (2, 'a@example.com')");
    const fails = await run(migrate, dir);
    // The exit code is all that it says without a terminal.
    assert.notEqual(fails.code, 0, fails.stdout + fails.stderr);
    await main.query("UPDATE customers SET email = 'b@example.com' WHERE id = 2");
    const fits = await run(migrate, dir);
    assert.equal(fits.code, 0, fits.stdout + fits.stderr);
    assert.equal(await main.value("SELECT count(*) FROM drizzle.__drizzle_migrations"), "1");
    assert.deepEqual(await branches(), ["main"]);
  });

  test("Prisma: a migration is tried on real data before main sees it", async () => {
    const dir = join(EXAMPLES, "prisma");
    const prisma = (...args: string[]) => ["prisma", ...args];
    const migrate = ["zenith", "run", "main", "--", ...prisma("migrate", "deploy")];
    await main.query("DROP SCHEMA IF EXISTS drizzle CASCADE");
    await main.query("DROP TABLE IF EXISTS customers");
    const passes = await run(migrate, dir, PRISMA);
    assert.equal(passes.code, 0, passes.stdout + passes.stderr);
    assert.match(passes.stdout, /All migrations have been successfully applied/);
    // The first migration has been run on main, whose data the second one does not fit.
    const [first, second] = ["20260101000000_customers", "20260102000000_one_email"];
    await main.query(example("prisma", "migrations", first, "migration.sql"));
    const uri = (await env.zenith("uri", "main")).trim();
    const resolved = await run(prisma("migrate", "resolve", "--applied", first), dir, {
      ...PRISMA,
      DATABASE_URL: uri,
    });
    assert.equal(resolved.code, 0, resolved.stdout + resolved.stderr);
    await main.query("INSERT INTO customers VALUES (1, 'a@example.com'), (2, 'a@example.com')");
    const fails = await run(migrate, dir, PRISMA);
    assert.equal(fails.code, 1, fails.stdout + fails.stderr);
    assert.match(fails.stderr, /Unique constraint failed: customers_email_key/);
    await main.query("UPDATE customers SET email = 'b@example.com' WHERE id = 2");
    const fits = await run(migrate, dir, PRISMA);
    assert.equal(fits.code, 0, fits.stdout + fits.stderr);
    assert.match(fits.stdout, new RegExp(second));
    assert.equal(await main.value("SELECT string_agg(migration_name, ' ') FROM _prisma_migrations"), first);
    assert.deepEqual(await branches(), ["main"]);
  });

  test("vitest: each test file has a branch of its own", async () => {
    await main.query("DELETE FROM customers");
    await main.query("INSERT INTO customers SELECT i, i || '@example.com' FROM generate_series(1, 100) i");
    const tests = await run(["vitest", "run"], join(EXAMPLES, "vitest"));
    assert.equal(tests.code, 0, tests.stdout + tests.stderr);
    assert.match(tests.stdout, /2 passed/);
    assert.equal(await count("main"), "100");
    assert.deepEqual(await branches(), ["main"]);
  });
});
