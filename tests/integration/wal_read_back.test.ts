/** WAL of any age through a safekeeper that has removed it: it comes back from the object store. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import {
  appendFileSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { after, before, describe, test } from "node:test";
import type { TimelineId } from "../../src/common/id.ts";
import { timelineOptions } from "../../src/protocol/wal_connection.ts";
import { childOutput } from "../harness/child_output.ts";
import { clientProgram } from "../harness/postgres_major.ts";
import { StockCopy } from "../harness/stock_copy.ts";
import { type Compute, until, ZenithEnv } from "../harness/zenith_env.ts";

const OPTIONS = { timeout: 240_000 };
const SEGMENTS = 3;
const SEGMENT = /^[0-9A-F]{24}$/;

describe("WAL that a safekeeper has removed", () => {
  const root = mkdtempSync(join(tmpdir(), "zenith-wal-"));
  const live = join(root, "live");
  let env: ZenithEnv;
  let pg: Compute;
  let old: StockCopy;
  let timeline: TimelineId;

  before(async () => {
    const store = pathToFileURL(join(root, "store")).href;
    const init = ["--object-store", store, "--key-file", join(root, "store.key")];
    env = await ZenithEnv.create({ init, safekeepers: 1 });
    await env.zenith("stop");
    appendFileSync(join(env.repoDir, "pageserver.toml"), "wal_retention_s = 86400\n");
    await env.zenith("start");
    pg = await env.startCompute();
    await pg.query("CREATE TABLE t (n int)");
    // Of the segment in which the timeline begins, safekeepers have a part.
    await pg.query("SELECT pg_switch_wal()");
    await pg.query("INSERT INTO t VALUES (0)");
    await pg.stop();
    await using client = env.pageserver.client();
    const [main] = await client.branchList(env.defaultTenant);
    timeline = main!.timeline_id;
    await until("the page server has everything", async () => {
      const [branch] = await client.branchList(env.defaultTenant);
      const [status] = await env.safekeepers[0]!.status();
      return branch!.latest_valid_lsn >= status!.commit_lsn;
    });
    // It goes on with the checkpoint that the Postgres writes when it starts from there.
    old = await StockCopy.of(env, "main");
    await pg.start();
    // While it is there: the oracle of what comes back later.
    const receiver = receive(live);
    for (let segment = 1; segment <= SEGMENTS; segment++) {
      await pg.query(`INSERT INTO t SELECT ${segment} FROM generate_series(1, 1000)`);
      await pg.query("SELECT pg_switch_wal()");
    }
    await pg.query("INSERT INTO t VALUES (0)");
    await until("all segments were received", () => segments().length >= SEGMENTS);
    receiver.child.kill("SIGINT");
    await receiver.ended;
    await until("the safekeeper has removed what was received", async () => {
      await pg.query("INSERT INTO t VALUES (0)");
      const names = readdirSync(env.safekeepers[0]!.paths.timeline(env.defaultTenant, timeline));
      const here = names.filter((name) => SEGMENT.test(name)).sort();
      return here.length > 0 && here[0]! > segments()[SEGMENTS - 1]!;
    });
  }, OPTIONS);

  after(async () => {
    await old?.[Symbol.asyncDispose]();
    await env?.[Symbol.asyncDispose]();
    rmSync(root, { recursive: true, force: true });
  });

  const segments = (): string[] => readdirSync(live).filter((name) => SEGMENT.test(name)).sort();

  function connection(): string {
    const { host, port } = env.safekeepers[0]!.address;
    return `host=${host} port=${port} user=zenith password=${env.token} options='${
      timelineOptions(env.defaultTenant, timeline)
    }'`;
  }

  /** Runs pg_receivewal, which goes on behind the whole segments that are in the directory. */
  function receive(directory: string, ...more: readonly string[]) {
    mkdirSync(directory, { recursive: true });
    const args = ["-D", directory, "-d", connection(), "--no-loop", "--no-sync", ...more];
    const child = spawn(clientProgram("pg_receivewal"), args, { stdio: ["ignore", "pipe", "pipe"] });
    return { child, ended: childOutput(child) };
  }

  /** The same into a directory that has only the first segment. */
  async function receiveAfterFirst(name: string, end: string) {
    const directory = join(root, name);
    mkdirSync(directory);
    copyFileSync(join(live, segments()[0]!), join(directory, segments()[0]!));
    return { directory, ...(await receive(directory, "-E", end).ended) };
  }

  test("is archived by pg_receivewal, byte for byte", OPTIONS, async () => {
    const end = String(await pg.value("SELECT pg_current_wal_flush_lsn()"));
    const { directory, code, stderr } = await receiveAfterFirst("late", end);
    assert.equal(code, 0, stderr);
    for (const name of segments()) {
      assert.ok(readFileSync(join(directory, name)).equals(readFileSync(join(live, name))), name);
    }
  });

  test("feeds a stock standby that was away", OPTIONS, async () => {
    const quoted = connection().replaceAll("'", "''");
    old.start("standby.signal", `primary_conninfo = '${quoted}'`, "wal_retrieve_retry_interval = 200ms");
    await old.until("SELECT count(*)::int FROM t", Number(await pg.value("SELECT count(*) FROM t")));
    await pg.query("INSERT INTO t VALUES (9)");
    await old.until("SELECT count(*)::int FROM t WHERE n = 9", 1);
  });

  test("is refused with the reason while the page server is away", OPTIONS, async () => {
    await env.pageserver.stop();
    const { code, stderr } = await receiveAfterFirst("away", "0/FFFFFFFF");
    await env.pageserver.start();
    assert.notEqual(code, 0);
    assert.match(stderr, /is not here: this safekeeper has .* can't read it back: /);
  });
});
