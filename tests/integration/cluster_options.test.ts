/** What is decided once about a tenant's cluster: its locale, encoding, and checksums. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { parseTenantId } from "../../src/common/id.ts";
import { type Compute, ZenithEnv } from "../harness/zenith_env.ts";

for (const major of [15, 18]) {
  describe(`a tenant's cluster, PostgreSQL ${major}`, () => {
    let env: ZenithEnv;

    before(async () => {
      env = await ZenithEnv.create({ major });
    });
    after(() => env?.[Symbol.asyncDispose]());

    async function make(...options: string[]): Promise<Compute> {
      const printed = await env.zenith("tenant", "create", "--pg-version", String(major), ...options);
      const pg = await env.createCompute("main", parseTenantId(/[0-9a-f]{32}/.exec(printed)![0]));
      await pg.start();
      return pg;
    }

    test("is UTF-8 in the C locale when nothing is said", async () => {
      await using pg = await env.startCompute("main");
      assert.deepEqual(
        await pg.query("SELECT datcollate, datctype FROM pg_database WHERE datname = 'postgres'"),
        [
          { datcollate: "C", datctype: "C" },
        ],
      );
      assert.equal(await pg.value("SHOW server_encoding"), "UTF8");
      await pg.stop();
    });

    test("orders text by ICU and has checksums when that is asked for, and after a restart", async () => {
      await using pg = await make("--icu-locale", "de", "--data-checksums");
      assert.equal(await pg.value("SHOW data_checksums"), "on");
      await pg.query("CREATE TABLE t AS SELECT unnest(ARRAY['Z', 'Ä', 'a']) AS word");
      await pg.restart();
      const sorted = "SELECT string_agg(word, '' ORDER BY word) FROM t";
      assert.equal(await pg.value(sorted), "aÄZ");
      await pg.stop();
    });

    test("has another encoding and locale when they are named", async () => {
      await using pg = await make("--encoding", "LATIN1", "--locale", "C");
      assert.equal(await pg.value("SHOW server_encoding"), "LATIN1");
      await using utf8 = await make("--locale", "C.UTF-8");
      assert.equal(
        await utf8.value("SELECT datctype FROM pg_database WHERE datname = 'postgres'"),
        "C.UTF-8",
      );
    });

    test("is refused in initdb's words", async () => {
      const failed = await env.tryZenith(
        "tenant",
        "create",
        "--pg-version",
        String(major),
        "--encoding",
        "KLINGON",
      );
      assert.notEqual(failed.code, 0);
      assert.match(failed.stderr, /KLINGON/);
      const wrong = await env.tryZenith("tenant", "create", "--locale", "a b");
      assert.equal(wrong.code, 2);
    });
  });
}
