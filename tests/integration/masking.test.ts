/** Masked branches: what they were before the mask is nowhere to be had, by any way there is. */
import assert from "node:assert/strict";
import { chmodSync, existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { formatLsn, type Lsn, parseLsn } from "../../src/common/lsn.ts";
import type { BranchInfo } from "../../src/control/page_server_client.ts";
import { PgClient } from "../../src/pgwire/client.ts";
import { segmentStart, WAL_SEGMENT_SIZE_DEFAULT as SEGMENT } from "../../src/postgres/wal/page_header.ts";
import {
  decodeResponse,
  encodeRequest,
  PageRequest,
  PageResponse,
  REQUEST_BYTES,
  REQUEST_NBLOCKS,
  RESPONSE_ERROR,
} from "../../src/protocol/pagestream.ts";
import { timelineOptions } from "../../src/protocol/wal_connection.ts";
import { Compute, until, ZenithEnv } from "../harness/zenith_env.ts";

/** What nobody may find. */
const SECRET = "topsecret";

const SEED = `
  CREATE TABLE people (id int PRIMARY KEY, ssn text, email text, note text);
  ALTER TABLE people ALTER note SET STORAGE EXTERNAL;
  INSERT INTO people SELECT n, '${SECRET}-ssn-' || n, '${SECRET}-mail-' || n % 10, repeat('${SECRET}-toast-' || n, 300)
    FROM generate_series(1, 200) n;
  CREATE INDEX ON people (email);
  CREATE STATISTICS mails (mcv) ON ssn, email FROM people;
  ANALYZE people;
  ALTER TABLE people DROP COLUMN ssn CASCADE;
  CREATE TABLE emptied AS SELECT '${SECRET}-gone-' || n AS v FROM generate_series(1, 200) n;
  DELETE FROM emptied;
  SELECT lo_from_bytea(4711, '${SECRET}-object');
`;

const MASK = `
  UPDATE people SET email = 'mail-' || id, note = NULL;
  SELECT lo_unlink(4711);
`;

describe("a masked branch", () => {
  let env: ZenithEnv;
  let main: Compute;
  let sql: string;
  /** Before the mask, and where it began. */
  let past: string;
  let mainInfo: BranchInfo;
  let masked: BranchInfo;
  let dev: BranchInfo;
  let work: BranchInfo;

  before(async () => {
    env = await ZenithEnv.create({ safekeepers: 1 });
    main = await env.startCompute("main");
    await main.query("CREATE DATABASE app");
    await main.query(SEED, { database: "app" });
    past = String(await main.value("SELECT pg_current_wal_insert_lsn()::text"));
    await main.query("CHECKPOINT");
    sql = join(env.dir, "mask.sql");
    writeFileSync(sql, MASK);
    const printed = await env.zenith("branch", "mask", "prod-masked", "main", "--sql", `app=${sql}`);
    assert.match(printed, /^branch prod-masked is masked: its history begins at 0\//);
    await env.zenith("branch", "dev", "prod-masked");
    const branches = await listed();
    mainInfo = branches.get("main")!;
    masked = branches.get("prod-masked")!;
    dev = branches.get("dev")!;
    work = [...branches.values()].find(({ name }) => name.startsWith("prod-masked-work-"))!;
  });
  after(() => env?.[Symbol.asyncDispose]());

  async function listed(): Promise<Map<string, BranchInfo>> {
    await using client = env.pageserver.client();
    return new Map((await client.branchList(main.tenant)).map((branch) => [branch.name, branch]));
  }

  function connect(password = env.token, branch?: BranchInfo): Promise<PgClient> {
    const replication = branch === undefined
      ? {}
      : { options: timelineOptions(main.tenant, branch.timeline_id), replication: true };
    return PgClient.connect({
      ...env.pageserver.address,
      user: "x",
      database: "x",
      password,
      ...replication,
    });
  }

  async function command(text: string, password?: string): Promise<string> {
    await using client = await connect(password);
    return String((await client.query(text)).rows[0]?.[0]);
  }

  /** Reads a whole answer. @returns whether the secret is in it */
  async function isIn(text: string, branch?: BranchInfo): Promise<boolean> {
    await using client = await connect(env.token, branch);
    const chunks: Uint8Array[] = [];
    for await (const chunk of client.copyOut(text)) chunks.push(Uint8Array.from(chunk));
    assert.ok(chunks.length > 0);
    return Buffer.concat(chunks).includes(SECRET);
  }

  const names = ({ timeline_id }: BranchInfo): string => `${main.tenant} ${timeline_id}`;

  test("has the data as the mask left it, and can be branched and written", async () => {
    const moment = new Date().toISOString();
    const compute = await env.startCompute("dev");
    const app = { database: "app" };
    assert.deepEqual(await compute.query("SELECT count(*)::int AS n, max(email) AS m FROM people", app), [
      { n: 200, m: "mail-99" },
    ]);
    assert.equal(await compute.value("SELECT count(*)::int FROM pg_largeobject", [], app), 0);
    await compute.query("INSERT INTO people VALUES (0, 'new')", app);
    assert.equal(
      await main.value("SELECT count(*)::int FROM people WHERE email LIKE $1", [`${SECRET}%`], app),
      200,
    );
    await compute.stop();
    await env.untilArrived("dev");
    // Moments since the mask are there, also those before anything was written on the branch.
    const found = JSON.parse(await command(`lsn_at ${names(dev)} ${moment}`)) as { lsn: string };
    assert.ok(parseLsn(found.lsn) >= masked.masked_from_lsn!);
    await env.zenith("branch", "moment", `dev@${moment}`);
    assert.equal((await listed()).get("moment")!.masked_from_lsn, masked.masked_from_lsn);
    await env.zenith("branch", "delete", "moment");
  });

  test("has nothing left in its pages, nor in the WAL that comes with them", async () => {
    // The search does find it where it is: in the dead rows of the branch that the mask ran on, at its beginning.
    assert.equal(await isIn(`basebackup ${names(mainInfo)}`), true);
    const before = `wal_from=${past}`;
    const end = formatLsn(masked.next_lsn);
    assert.equal(await isIn(`basebackup ${names(masked)} ${end} ${before}`), false);
    assert.equal(await isIn("BASE_BACKUP (LABEL 'x', WAL)", dev), false);
  });

  test("has no WAL from before the mask", async () => {
    const segmentOf = (lsn: Lsn): string => formatLsn(segmentStart(lsn, SEGMENT));
    const received = async (branch: BranchInfo): Promise<Buffer> => {
      const segment = segmentOf(branch.ancestor_lsn!);
      await using client = await connect(env.token, branch);
      const copy = await client.copyBoth(`START_REPLICATION PHYSICAL ${segment}`);
      const chunks: Uint8Array[] = [];
      const whole = branch.next_lsn - parseLsn(segment);
      await new Promise<void>((resolve, reject) => {
        let bytes = 0;
        copy.run({
          onData(data, off, len) {
            chunks.push(data.slice(off, off + len));
            bytes += len;
            if (bytes >= whole) resolve();
          },
        }).then(resolve, reject);
      });
      client.destroy();
      return Buffer.concat(chunks);
    };
    assert.ok((await received(work)).includes("mail-"), "the mask's own WAL is found where it is");
    for (const branch of [masked, (await listed()).get("dev")!]) {
      const wal = await received(branch);
      assert.ok(wal.length > 0);
      assert.equal(wal.includes(SECRET), false);
      const segmentBefore = segmentOf((branch.ancestor_lsn! - SEGMENT) as Lsn);
      await using client = await connect(env.token, branch);
      await assert.rejects(client.copyBoth(`START_REPLICATION PHYSICAL ${segmentBefore}`), /is not here/);
    }
  });

  test("has no past before the mask, by whatever name", async () => {
    const justBefore = formatLsn((masked.masked_from_lsn! - 8) as Lsn);
    const refusal = /begins at|beginning of timeline|before the (?:mask|history)|is not here/;
    for (const branch of [masked, dev]) {
      for (const lsn of [past, justBefore]) {
        for (
          const text of [
            `basebackup ${names(branch)} ${lsn}`,
            `basebackup ${names(branch)} ${lsn} lazy`,
            `lease_lsn ${names(branch)} ${lsn}`,
            `timeline_settings ${names(branch)} ${lsn}`,
            `branch_create ${main.tenant} back ${branch.name}@${lsn}`,
            `branch_create ${main.tenant} back ${branch.timeline_id}@${lsn}`,
            `branch_restore ${main.tenant} dev ${branch.name}@${lsn} keep_as=back`,
            `changed_blocks ${names(branch)} ${lsn} ${branch.timeline_id} ${formatLsn(branch.next_lsn)} 5`,
            `page_versions ${names(branch)} 1663 5 1259 0 0 ${lsn}`,
          ]
        ) await assert.rejects(command(text), refusal, text);
        assert.match(await pageAt(branch, lsn), refusal);
        for (
          const args of [["branch", "back", `${branch.name}@${lsn}`], [
            "pg",
            "start",
            `${branch.name}@${lsn}`,
          ]]
        ) {
          const failed = await env.tryZenith(...args);
          assert.notEqual(failed.code, 0);
          assert.match(failed.stderr, refusal, args.join(" "));
        }
      }
      await assert.rejects(command(`lsn_at ${names(branch)} 2020-01-01T00:00:00Z`), refusal);
      const history = JSON.parse(await command(`timeline_history ${names(branch)}`)) as {
        timeline_id: string;
      }[];
      assert.equal(history.at(-1)!.timeline_id, masked.timeline_id);
    }
    // Its name never stands for something that is not masked.
    for (
      const args of [["reset", "prod-masked"], ["restore", "dev", "main"], ["restore", "dev", work.name]]
    ) {
      const failed = await env.tryZenith("branch", ...args);
      assert.match(failed.stderr, /branch (?:dev|prod-masked) is masked, and its new start is not/);
    }
    assert.deepEqual([...(await listed()).keys()].sort(), ["dev", "main", "prod-masked", work.name]);
  });

  /** Asks for a size by the stream that computes use. @returns what the page server says */
  async function pageAt(branch: BranchInfo, lsn: string): Promise<string> {
    await using client = await connect();
    const copy = await client.copyBoth(`pagestream ${names(branch)}`);
    const request = Object.assign(new PageRequest(), {
      tag: REQUEST_NBLOCKS,
      requestId: 1,
      lsn: parseLsn(lsn),
      spc: 1663,
      db: 1,
      rel: 1249,
    });
    const bytes = new Uint8Array(REQUEST_BYTES);
    encodeRequest(bytes, 0, request);
    const answer = Promise.withResolvers<string>();
    copy.run({
      onData(data, off, len) {
        const response = new PageResponse();
        decodeResponse(response, data, off, len);
        const text = Buffer.from(data.subarray(response.off, response.off + response.len)).toString();
        answer.resolve(response.tag === RESPONSE_ERROR ? text : `${response.value} blocks`);
      },
    }).catch(answer.reject);
    copy.send(bytes);
    const text = await answer.promise;
    client.destroy();
    return text;
  }

  test("stays so when the page server is killed, and before the branch is opened again", async () => {
    await env.pageserver.kill9();
    await env.pageserver.start();
    const branches = await listed();
    assert.equal(branches.get("dev")!.masked_from_lsn, masked.masked_from_lsn);
    assert.equal(branches.get("main")!.masked_from_lsn, null);
    assert.equal(branches.get(work.name)!.masked_from_lsn, null);
    assert.match(await pageAt(dev, past), /before the mask/);
    assert.match(await pageAt(mainInfo, past), /blocks/);
  });

  test("is all that a token for masked branches opens", async () => {
    const token = async (...args: string[]) =>
      (await env.zenith("token", "create", "ann", "--masked", ...args)).trim();
    const ann = await token("--scope", "tenant");
    const reader = await token("--scope", "read");
    const wrong = await env.tryZenith("token", "create", "x", "--scope", "admin", "--masked");
    assert.match(wrong.stderr, /a token of scope admin is never for masked branches alone/);
    for (const password of [ann, reader]) {
      const seen = JSON.parse(await command(`branch_list ${main.tenant}`, password)) as { name: string }[];
      assert.deepEqual(seen.map(({ name }) => name), ["dev", "prod-masked"]);
      await command(`branch_get ${main.tenant} dev`, password);
      await command(`lease_lsn ${names(masked)} ${formatLsn(masked.next_lsn)}`, password);
      for (const branch of [mainInfo, work]) {
        for (
          const text of [
            `branch_get ${main.tenant} ${branch.name}`,
            `branch_get ${main.tenant} ${branch.timeline_id}`,
            `lsn_at ${names(branch)} 2030-01-01T00:00:00Z`,
            `timeline_history ${names(branch)}`,
            `lease_lsn ${names(branch)} ${past}`,
            `changed_blocks ${names(masked)} ${formatLsn(masked.next_lsn)} ${branch.timeline_id} ${past} 5`,
          ]
        ) await refused(text, password);
        await using client = await connect(password, branch);
        for (
          const text of ["IDENTIFY_SYSTEM", "BASE_BACKUP (LABEL 'x')", "START_REPLICATION PHYSICAL 0/1000000"]
        ) {
          await assert.rejects(client.query(text), /for masked branches alone/, text);
        }
      }
      await refused(`branch_damaged ${main.tenant}`, password);
    }
    await command(`branch_create ${main.tenant} ann prod-masked`, ann);
    await command(`branch_restore ${main.tenant} ann dev`, ann);
    await command(`branch_delete ${main.tenant} ann`, ann);
    for (const { name, timeline_id: id } of [mainInfo, work]) {
      for (
        const text of [
          `branch_create ${main.tenant} ann ${name}`,
          `branch_create ${main.tenant} ann ${id}@${past}`,
          `branch_create ${main.tenant} ann dev masked`,
          `branch_create ${main.tenant} ann dev unmasked`,
          `branch_restore ${main.tenant} dev ${name} keep_as=ann`,
          `branch_restore ${main.tenant} ${name} dev keep_as=ann`,
          `branch_rename ${main.tenant} ${name} ann`,
          `branch_delete ${main.tenant} ${name}`,
          `branch_protect ${main.tenant} ${name}`,
          `branch_set_expiry ${main.tenant} ${name} expires=1d`,
          `branch_require_mask ${main.tenant} ${name} off`,
          `follow_remove ${main.tenant} ${name}`,
          `timeline_status ${main.tenant} ${id}`,
          `timeline_settings ${main.tenant} ${id}`,
          `timeline_take_slots ${main.tenant} ${id}`,
          `basebackup ${main.tenant} ${id}`,
          `do_gc ${main.tenant} ${id}`,
        ]
      ) await refused(text, ann);
      await using client = await connect(ann);
      for (const text of ["pagestream", "compute_attach"]) {
        await assert.rejects(client.copyBoth(`${text} ${main.tenant} ${id}`), /for masked branches alone/);
      }
    }
    // The mask's own branch is there to be branched, not to be changed.
    for (
      const text of [
        `branch_rename ${main.tenant} prod-masked mine`,
        `branch_delete ${main.tenant} prod-masked cascade`,
        `branch_restore ${main.tenant} prod-masked dev keep_as=mine`,
        `timeline_take_slots ${names(masked)}`,
        `tenant_config ${main.tenant} pitr_interval=1s`,
      ]
    ) await refused(text, ann);
    // A safekeeper can't tell what is masked.
    const [{ address }] = env.safekeepers;
    for (const branch of [dev, work]) {
      const options = timelineOptions(main.tenant, branch.timeline_id);
      const login = { user: "x", database: "x", options, replication: true };
      await using client = await PgClient.connect({ ...address, ...login, password: ann });
      await assert.rejects(client.query("IDENTIFY_SYSTEM"), /for masked branches alone/);
    }
  });

  async function refused(text: string, password: string): Promise<void> {
    await assert.rejects(command(text, password), /for masked branches alone/, text);
  }

  test("can be all that a branch is used by", async () => {
    await env.zenith("branch", "require-mask", "main");
    for (
      const args of [
        ["branch", "x", "main"],
        ["branch", "x", `main@${past}`],
        ["branch", "x", work.name],
        ["branch", "restore", "dev", "main", "--keep-as", "x"],
        ["pg", "start", `main@${past}`],
        ["run", "main", "--", "true"],
      ]
    ) {
      const failed = await env.tryZenith(...args);
      assert.notEqual(failed.code, 0, args.join(" "));
      assert.match(failed.stderr, /branch main is to be (?:branched|seen) by its mask alone/, args.join(" "));
    }
    await assert.rejects(
      command(
        `branch_create ${main.tenant} x main unmasked`,
        (await env.zenith("token", "create", "x", "--scope", "tenant")).trim(),
      ),
      /is not for branches of what requires a mask/,
    );
    await env.zenith("branch", "fine", "dev");
    await env.zenith("branch", "delete", "fine");
    await env.pageserver.restart();
    const failed = await env.tryZenith("branch", "x", "main");
    assert.match(failed.stderr, /by its mask alone/);
  });

  test("is as before when a mask fails, and nothing else is left", async () => {
    const names = [...(await listed()).keys()];
    writeFileSync(sql, "DELETE FROM people; SELECT 1/0;");
    const again = ["branch", "mask", "prod-masked", "main", "--sql", `app=${sql}`];
    let failed = await env.tryZenith(...again);
    assert.notEqual(failed.code, 0);
    assert.match(failed.stderr, /mask\.sql: .*division by zero/);
    const over = await env.tryZenith("branch", "mask", "main", "dev", "--sql", sql);
    assert.match(over.stderr, /branch main exists, and is not masked/);
    assert.deepEqual([...(await listed()).keys()], names);
    assert.equal((await listed()).get("prod-masked")!.timeline_id, masked.timeline_id);
    assert.doesNotMatch(await env.zenith("pg", "list"), /-work-/);
    writeFileSync(sql, "CREATE DATABASE closed ALLOW_CONNECTIONS false");
    failed = await env.tryZenith("branch", "mask", "prod-masked", "main", "--sql", sql);
    assert.match(failed.stderr, /nobody may connect to database closed/);
    assert.deepEqual([...(await listed()).keys()], names);
    // Nor when its Postgres is killed midway.
    const reached = join(env.dir, "reached");
    mkdirSync(reached);
    chmodSync(reached, 0o777);
    writeFileSync(sql, `DELETE FROM people; COPY (SELECT 1) TO '${reached}/it'; SELECT pg_sleep(600)`);
    const running = env.tryZenith(...again);
    await until("the mask has begun", () => existsSync(join(reached, "it")));
    const made = [...(await listed()).keys()].find((name) => !names.includes(name))!;
    await new Compute(env, made, main.tenant, 0).kill9();
    assert.notEqual((await running).code, 0);
    assert.deepEqual([...(await listed()).keys()], names);
  });

  test("is made anew from newer data, under the same name", async () => {
    await main.query("UPDATE people SET email = 'z' WHERE id = 1", { database: "app" });
    writeFileSync(sql, `${MASK}; UPDATE people SET note = 'again'`);
    await env.zenith(
      "branch",
      "mask",
      "prod-masked",
      "main",
      "--sql",
      `app=${sql}`,
      "--keep-as",
      "old-masked",
    );
    const branches = await listed();
    assert.equal(branches.get("old-masked")!.timeline_id, masked.timeline_id);
    assert.ok(branches.get("prod-masked")!.masked_from_lsn! > masked.masked_from_lsn!);
    const compute = await env.startCompute("prod-masked");
    assert.equal(await compute.value("SELECT min(note) FROM people", [], { database: "app" }), "again");
    await compute.stop();
    // Nobody comes from this one, so it can be replaced altogether.
    const before = branches.size;
    await env.zenith("branch", "mask", "prod-masked", "main", "--sql", `app=${sql}`, "--discard");
    assert.equal((await listed()).size, before);
  });
});
