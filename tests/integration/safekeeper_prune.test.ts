/** WAL that the page server lacks a timeline for may be all there is: it goes only if the timeline was deleted, or somebody names it. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { safekeeperStatus } from "../../src/control/safekeepers.ts";
import { ZenithEnv } from "../harness/zenith_env.ts";

let env: ZenithEnv;

before(async () => {
  env = await ZenithEnv.create({ safekeepers: 1 });
});
after(() => env[Symbol.asyncDispose]());

async function timelines(): Promise<string[]> {
  return (await safekeeperStatus(env.safekeepers[0].address)).map(({ timeline_id }) => timeline_id);
}

test("safekeeper prune refuses what was never known to be deleted, and takes it when it is named", async () => {
  await env.branch("lost", "main");
  const compute = await env.startCompute("lost");
  await compute.query("CREATE TABLE t (n int)");
  await compute.stop();
  const [lost] = await timelines();
  assert.ok(lost !== undefined);
  const present = await env.tryZenith("safekeeper", "prune", lost, "--yes");
  assert.equal(present.code, 5, "the page server has it");

  // The safekeeper is down when the branch goes; then the page server forgets that it did, as an older copy of it would have.
  await env.safekeepers[0].kill9();
  await env.zenith("branch", "delete", "lost");
  await env.safekeepers[0].start();
  await env.pageserver.kill9();
  writeFileSync(env.paths.pageserver.deletedTimelines, "zenith deleted timelines 1\n");
  await env.pageserver.start();

  const refused = await env.tryZenith("safekeeper", "prune", "--yes");
  assert.equal(refused.code, 0);
  assert.match(refused.stderr, new RegExp(`timeline ${lost} of tenant .* stays: .*may be all there is`, "s"));
  assert.deepEqual(await timelines(), [lost]);
  const asked = await env.tryZenith("safekeeper", "prune", lost);
  assert.equal(asked.code, 5, "nobody is there to be asked");
  assert.deepEqual(await timelines(), [lost]);
  await env.zenith("safekeeper", "prune", lost, "--yes");
  assert.deepEqual(await timelines(), []);
});
