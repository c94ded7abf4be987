import { after, before, describe, test } from "node:test";
import { branchHere } from "../harness/branching.ts";
import { WriteHistory } from "../harness/write_history.ts";
import { ZenithEnv } from "../harness/zenith_env.ts";

let env: ZenithEnv;

before(async () => {
  env = await ZenithEnv.create();
});
after(() => env[Symbol.asyncDispose]());

const WRITERS = 3;
const COMMITS_PER_ROUND = 100;

describe("kill -9 of page server and Postgres at once", () => {
  test("loses nothing that was acknowledged, on the branch and on a branch of it", async () => {
    const pg = await env.startCompute("main");
    await WriteHistory.createTables(pg);
    const history = new WriteHistory(WRITERS);
    for (let round = 0; round < 2; round++) {
      history.start(pg);
      await history.untilAcknowledged(COMMITS_PER_ROUND);
      await Promise.all([env.pageserver.kill9(), pg.kill9()]);
      await history.stop();
      await env.pageserver.start();
      await pg.start();
      await history.verify(pg);
    }
    const branch = await branchHere(env, pg, "after");
    await history.verify(branch);
    await branch.stop();
    await pg.stop();
  });
});
