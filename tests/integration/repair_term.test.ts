/** A timeline whose term was driven up to where no election can follow, as a file of an earlier release may have it. */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { test } from "node:test";
import { decodeControlFile, encodeControlFile } from "../../src/safekeeper/control_file.ts";
import { ZenithEnv } from "../harness/zenith_env.ts";

const OPTIONS = { timeout: 180_000 };

test("a term that was driven up is named at the start, and set back by a command", OPTIONS, async () => {
  await using env = await ZenithEnv.create({ safekeepers: 3 });
  const compute = await env.startCompute();
  await compute.query("CREATE TABLE t AS SELECT 1 AS n");
  assert.equal((await env.tryZenith("safekeeper", "repair-term", "main")).code, 5, "a Postgres runs");
  await compute.stop();
  assert.match(await env.zenith("safekeeper", "repair-term", "main"), /nothing to repair/);

  for (const safekeeper of env.safekeepers.slice(0, 2)) {
    const [timeline] = await safekeeper.status();
    await safekeeper.kill9();
    const path = safekeeper.paths.controlFile(timeline!.tenant_id, timeline!.timeline_id);
    const { identity, control } = decodeControlFile(readFileSync(path), path);
    const driven = { ...control, term: Number.MAX_SAFE_INTEGER };
    writeFileSync(path, encodeControlFile(identity, driven));
    await safekeeper.start();
  }
  // One of three is no quorum. What it says is what the user needs.
  const refused = await env.tryZenith("pg", "start", "main");
  assert.notEqual(refused.code, 0);
  assert.match(refused.stderr, /is in term 9007199254740991, where no election can be won any more/);
  assert.match(refused.stderr, /safekeeper repair-term/);

  const repaired = await env.zenith("safekeeper", "repair-term", "main");
  assert.match(repaired, /^safekeeper 1: term 9007199254740991 set back to \d+$/m);
  assert.match(repaired, /^safekeeper 2: term 9007199254740991 set back to \d+$/m);
  await compute.start();
  await compute.query("INSERT INTO t VALUES (2)");
  assert.equal(await compute.value("SELECT string_agg(n::text, ' ' ORDER BY n) FROM t"), "1 2");
  await compute.stop();
});
