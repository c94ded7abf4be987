/** What a person at a terminal is asked, and what Ctrl-C leaves behind. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { allComputePlaces } from "../../src/control/compute_places.ts";
import { CTRL_C, DOWN, ENTER, Terminal } from "../harness/terminal.ts";
import { type Compute, until, ZenithEnv } from "../harness/zenith_env.ts";

let env: ZenithEnv;
let main: Compute;

before(async () => {
  env = await ZenithEnv.create({ safekeepers: 0 });
  main = await env.startCompute("main");
  await main.query("CREATE TABLE t AS SELECT generate_series(1, 1000) AS n");
});
after(() => env[Symbol.asyncDispose]());

function terminal(args: readonly string[], options?: { columns: number }): Terminal {
  return new Terminal(args, { ZENITH_REPO_DIR: env.repoDir }, options);
}

async function names(): Promise<string[]> {
  const branches = JSON.parse(await env.zenith("branch", "list", "--json")) as { branch: string }[];
  return branches.map(({ branch }) => branch);
}

describe("on a terminal", () => {
  test("a name that is missing is asked for, from a list or as a word", async () => {
    await env.branch("first", "main");
    using get = terminal(["branch", "get"]);
    await get.see(/Which branch\?/);
    await get.see(/● first/);
    get.type(DOWN);
    await get.see(/● main/);
    get.type(ENTER);
    assert.equal(await get.ended(), 0, get.shown);
    assert.match(get.shown, /branch +main\n/);

    using rename = terminal(["branch", "rename"]);
    await rename.see(/Which branch\?/);
    rename.type("fir");
    await rename.see(/1 match/);
    rename.type(ENTER);
    await rename.see(/What is <new-name>\?/);
    rename.type(`second${ENTER}`);
    assert.equal(await rename.ended(), 0, rename.shown);
    assert.deepEqual(await names(), ["main", "second"]);

    using make = terminal(["branch", "third"]);
    await make.see(/Where is branch third to start\?/);
    make.type("sec");
    await make.see(/1 match/);
    make.type(ENTER);
    assert.equal(await make.ended(), 0, make.shown);
    using create = terminal(["branch", "create"]);
    await create.see(/What is the branch to be called\?/);
    create.type(`fourth${ENTER}`);
    assert.equal(await create.ended(), 0, create.shown);
    assert.deepEqual(await names(), ["fourth", "main", "second", "third"]);
  });

  test("who gives no answer is told what is missing", async () => {
    using stop = terminal(["pg", "stop"]);
    await stop.see(/Which branch\?/);
    stop.type(CTRL_C);
    assert.equal(await stop.ended(), 2, stop.shown);
    assert.match(stop.shown, /missing required args for command "pg stop <branch>"/);
    assert.equal(await main.value("SELECT 1"), 1);
    // Nothing that is shown there could be read.
    using narrow = terminal(["pg", "stop"], { columns: 0 });
    assert.equal(await narrow.ended(), 2, narrow.shown);
    assert.doesNotMatch(narrow.shown, /Which branch/);
  });

  test("what goes with that which is named is asked about, but for --yes", async () => {
    const cascade = ["branch", "delete", "second", "--cascade"];
    using no = terminal(cascade);
    await no.see(/Delete second, third\?/);
    no.type(ENTER);
    assert.equal(await no.ended(), 5, no.shown);
    assert.deepEqual(await names(), ["fourth", "main", "second", "third"]);
    using yes = terminal([...cascade, "--yes"]);
    assert.equal(await yes.ended(), 0, yes.shown);
    assert.doesNotMatch(yes.shown, /\?/);
    assert.deepEqual(await names(), ["fourth", "main"]);

    const tenant = await env.createTenant();
    using sure = terminal(["tenant", "delete", tenant]);
    await sure.see(/with its branches \(main\)\?/);
    sure.type("y");
    assert.equal(await sure.ended(), 0, sure.shown);
    assert.doesNotMatch(await env.zenith("tenant", "list"), new RegExp(tenant));
  });
});

test("on a pipe nothing is asked", async () => {
  const refused = await env.tryZenith("branch", "get");
  assert.equal(refused.code, 2);
  assert.match(refused.stderr, /missing required args for command "branch get <name>"/);
  assert.equal((await env.tryZenith("branch", "fifth")).code, 2);
  await env.branch("fifth", "main");
  await env.branch("sixth", "fifth");
  await env.zenith("branch", "delete", "fifth", "--cascade");
  assert.deepEqual(await names(), ["fourth", "main"]);
});

describe("Ctrl-C", () => {
  async function untilBranchesAre(count: number): Promise<void> {
    await until(`there are ${count} branches`, async () => (await names()).length === count);
  }

  /** Nothing of a throw-away branch is left. */
  async function assertNothingLeft(): Promise<void> {
    assert.deepEqual(await names(), ["fourth", "main"]);
    assert.deepEqual(allComputePlaces(env.environment).map(({ name }) => name), ["main"]);
  }

  test("ends the command of `run`, whose branch is removed", async () => {
    using run = terminal(["run", "main", "--", "sh", "-c", "echo it runs; exec sleep 1000"]);
    await run.see(/it runs/);
    assert.equal((await names()).length, 3);
    run.type(CTRL_C);
    assert.equal(await run.ended(), 130, run.shown);
    await assertNothingLeft();
  });

  test("while `run` makes its branch removes it too", async () => {
    using run = terminal(["run", "main", "--", "echo", "it runs"]);
    await untilBranchesAre(3);
    run.type(CTRL_C);
    assert.equal(await run.ended(), 3, run.shown);
    assert.doesNotMatch(run.shown, /^it runs/m);
    await assertNothingLeft();
  });

  test("ends `branch diff`, whose branches are removed", async () => {
    using diff = terminal(["branch", "diff", "main", "fourth"]);
    await untilBranchesAre(4);
    diff.type(CTRL_C);
    assert.equal(await diff.ended(), 3, diff.shown);
    assert.match(diff.shown, /ended by SIGINT: what it made is removed/);
    await assertNothingLeft();
  });
});
