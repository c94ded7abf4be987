/** What a lazy compute's overlay takes of the disk, with a bound that is much too small for the data. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { saveEnvironment } from "../../src/control/environment.ts";
import { ACCOUNTS_CONTENT, createAccounts } from "../harness/accounts.ts";
import { addSettings } from "../harness/branching.ts";
import { dropPageCache, overlayBytes } from "../harness/lazy_files.ts";
import { amcheck } from "../harness/programs.ts";
import { type Compute, until, ZenithEnv } from "../harness/zenith_env.ts";

const MAX_MB = 12;
/** Not counted in: the small files that come with each start, such as pg_control, and what the disk rounds up. */
const OTHER_BYTES = 256 << 10;
const MAX_BYTES = (MAX_MB << 20) + OTHER_BYTES;
/** Some 30 MB with its index. */
const ROWS = 40_000;

let env: ZenithEnv;
let compute: Compute;
let content: unknown;

before(async () => {
  env = await ZenithEnv.create({ storage: "lazy" });
  const { paths, config } = env.environment;
  saveEnvironment({
    paths,
    config: { ...config, compute: { ...config.compute, storage: "lazy", overlay_max_mb: MAX_MB } },
  });
  compute = await env.createCompute("main");
  addSettings(compute, "shared_buffers = '1MB'", "autovacuum = off");
  await compute.start();
  await createAccounts(compute, ROWS);
  // Else every reader would write to the pages: hint bits, which are not in WAL and gone after each start.
  await compute.query("VACUUM (FREEZE, ANALYZE) accounts");
  content = await compute.value(ACCOUNTS_CONTENT);
});
after(() => env[Symbol.asyncDispose]());

function log(): string {
  return readFileSync(compute.paths.log, "utf8");
}

describe("an overlay with a bound", () => {
  test("takes no more for pages that are read, however many, and they are right each time", async () => {
    await compute.restart();
    const logged = log().length;
    for (let round = 0; round < 3; round++) {
      assert.equal(await compute.value(ACCOUNTS_CONTENT), content);
      dropPageCache(compute.paths);
      const bytes = overlayBytes(compute.paths);
      // In the first round only the kernel gets them. It has evicted them before the second.
      if (round === 0) assert(bytes <= MAX_BYTES / 4, `${bytes} bytes after the first round`);
      else assert(bytes > MAX_BYTES / 2 && bytes <= MAX_BYTES, `${bytes} bytes`);
    }
    await amcheck(compute, ["postgres"]);
    assert.doesNotMatch(log().slice(logged), /overlay_max_mb/);
  });

  test("keeps what is written beside it, and reads it from nowhere else", async () => {
    await compute.restart();
    await compute.query("UPDATE accounts SET balance = id WHERE id % 400 = 0");
    await compute.query("CHECKPOINT");
    dropPageCache(compute.paths);
    const changed = await compute.value(ACCOUNTS_CONTENT);
    for (let round = 0; round < 2; round++) {
      dropPageCache(compute.paths);
      assert.equal(await compute.value(ACCOUNTS_CONTENT), changed);
    }
    const bytes = overlayBytes(compute.paths);
    assert(bytes <= MAX_BYTES, `${bytes} bytes`);
    await amcheck(compute, ["postgres"]);
    await compute.restart();
    assert.equal(await compute.value(ACCOUNTS_CONTENT), changed);
  });

  test("loses nothing when what is written is more, and says so", async () => {
    await compute.restart();
    await compute.query("UPDATE accounts SET balance = balance + 1");
    await compute.query("CHECKPOINT");
    const changed = await compute.value(ACCOUNTS_CONTENT);
    dropPageCache(compute.paths);
    await until(
      "pg list says so",
      async () => /written takes more of the disk/.test(await env.zenith("pg", "list")),
    );
    assert.match(log(), /compute\.overlay_max_mb: only a restart can give it up/);
    for (let round = 0; round < 2; round++) {
      assert.equal(await compute.value(ACCOUNTS_CONTENT), changed);
      dropPageCache(compute.paths);
    }
    await amcheck(compute, ["postgres"]);
    await compute.restart();
    assert.doesNotMatch(await env.zenith("pg", "list"), /written takes/);
    assert.equal(await compute.value(ACCOUNTS_CONTENT), changed);
  });
});
