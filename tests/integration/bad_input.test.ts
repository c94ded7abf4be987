import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { chmodSync, mkdirSync, readdirSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { generateTenantId, parseBranchName } from "../../src/common/id.ts";
import { runZenith } from "../harness/cli.ts";
import { freePort } from "../harness/ports.ts";
import { type Compute, until, ZenithEnv } from "../harness/zenith_env.ts";

let env: ZenithEnv;
let main: Compute;
let timelineDir: string;

const ROWS = 2000;
const COUNT = "SELECT count(*)::int FROM t";

before(async () => {
  env = await ZenithEnv.create();
  main = await env.startCompute("main");
  await main.query("CREATE TABLE t (n int PRIMARY KEY, v text)");
  await main.query(`INSERT INTO t SELECT n, repeat('x', 200) FROM generate_series(1, ${ROWS}) n`);
  const [branch] = await env.pageserver.client().branchList(env.defaultTenant);
  timelineDir = env.paths.pageserver.timeline(env.defaultTenant, branch!.timeline_id);
  // A clean stop leaves everything in layers.
  await main.stop();
  await env.pageserver.restart();
});
after(() => env[Symbol.asyncDispose]());

/** Runs `damaged` while `file` is damaged, on a page server that has not read it before; mends it afterwards. */
async function whileDamaged(
  file: string,
  damage: (content: Uint8Array) => Uint8Array,
  damaged: () => Promise<void>,
): Promise<void> {
  await env.pageserver.stop();
  const content = readFileSync(file);
  writeFileSync(file, damage(Uint8Array.from(content)));
  try {
    await env.pageserver.start();
    await damaged();
  } finally {
    await env.pageserver.kill9();
    writeFileSync(file, content);
    await env.pageserver.start();
  }
}

async function assertUnharmed(): Promise<void> {
  await main.start();
  assert.equal(await main.value(COUNT), ROWS);
  await main.stop();
}

describe("damaged files", () => {
  test("a layer with a changed byte is named in the error; mended, all is there", async () => {
    const layers = readdirSync(timelineDir).filter((name) => name.endsWith(".layer")).sort();
    assert.ok(layers.length > 0);
    const file = join(timelineDir, layers[0]);
    for (const where of [0.1, 0.5, 0.999]) {
      await whileDamaged(file, (content) => {
        content[Math.floor(content.length * where)] ^= 0x55;
        return content;
      }, async () => {
        const failed = await env.tryZenith("pg", "start", "main");
        assert.notEqual(failed.code, 0);
        assert.match(failed.stderr, new RegExp(layers[0]), failed.stderr);
      });
    }
    await assertUnharmed();
  });

  test("a layer that is cut short is named in the error", async () => {
    const [layer] = readdirSync(timelineDir).filter((name) => name.endsWith(".layer")).sort();
    await whileDamaged(
      join(timelineDir, layer!),
      (content) => content.subarray(0, content.length / 2),
      async () => {
        const failed = await env.tryZenith("pg", "start", "main");
        assert.notEqual(failed.code, 0);
        assert.match(failed.stderr, new RegExp(layer!));
      },
    );
    await assertUnharmed();
  });

  test("timeline metadata that are damaged are named, and other tenants go on", async () => {
    const other = await env.createTenant();
    const file = join(timelineDir, "metadata");
    const damages: ((content: Uint8Array) => Uint8Array)[] = [
      (content) => content.subarray(0, 10),
      () => new Uint8Array(0),
      (content) => {
        content[content.length >> 1] ^= 1;
        return content;
      },
    ];
    for (const damage of damages) {
      await whileDamaged(file, damage, async () => {
        const listed = await env.tryZenith("branch");
        assert.equal(listed.code, 0, "the others are listed");
        assert.match(listed.stderr, /metadata/);
        assert.equal(await env.zenith("branch", "--tenantid", other), "main\n");
      });
    }
    await assertUnharmed();
  });

  test("a branch file that holds no timeline id is named", async () => {
    const file = env.paths.pageserver.branch(env.defaultTenant, parseBranchName(main.branch));
    await whileDamaged(file, () => new TextEncoder().encode("nonsense\n"), async () => {
      const listed = await env.tryZenith("branch");
      assert.equal(listed.code, 0, "the others are listed");
      assert.match(listed.stderr, /branches\/main/);
    });
    await assertUnharmed();
  });

  test("WAL that was cut short is received again from the Postgres that still has it", async () => {
    await main.start();
    await main.query("INSERT INTO t SELECT n, 'more' FROM generate_series(10001, 10100) n");
    await env.pageserver.kill9();
    const walDir = join(timelineDir, "wal");
    const last = readdirSync(walDir).filter((name) => /^[0-9A-F]{24}$/.test(name)).sort().at(-1)!;
    const wal = readFileSync(join(walDir, last));
    const used = wal.findLastIndex((byte) => byte !== 0);
    truncateSync(join(walDir, last), used - 1000);
    await env.pageserver.start();
    await main.query("INSERT INTO t VALUES (20000, 'after')");
    await main.restart();
    assert.equal(await main.value(COUNT), ROWS + 101);
    await main.query("DELETE FROM t WHERE n > 10000");
    await main.stop();
  });
});

describe("bad requests", () => {
  test("bytes that are no PostgreSQL message close that connection and nothing else", async () => {
    const { host, port } = env.pageserver.address;
    const garbage = [
      "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
      "\x00\x00\x00\x00",
      "\x7f\xff\xff\xff\x00\x03\x00\x00",
      "\x00\x00\x00\x08\x00\x01\x00\x00",
      "\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
      "\x00".repeat(100_000),
    ];
    for (const bytes of garbage) {
      await new Promise<void>((resolve, reject) => {
        const socket = connect(port, host, () => socket.end(Buffer.from(bytes, "latin1")));
        socket.resume();
        socket.on("close", () => resolve());
        socket.on(
          "error",
          (error: NodeJS.ErrnoException) => error.code === "ECONNRESET" ? resolve() : reject(error),
        );
      });
    }
    assert.match(await env.zenith("branch"), /^main$/m);
  });

  test("a page server port that is taken is named, and what has it goes on", async () => {
    const { host, port } = env.pageserver.address;
    await using other = await ZenithEnv.create({ start: false });
    const taken = await runZenith(["pageserver", "-D", other.repoDir, "-l", `${host}:${port}`], {});
    assert.notEqual(taken.code, 0);
    assert.match(taken.stderr, new RegExp(`${port}`));
    assert.match(await env.zenith("branch"), /^main$/m);
  });

  test("a page server that runs already is not started again on its directory", async () => {
    const again = await runZenith(
      ["pageserver", "-D", env.repoDir, "-l", `127.0.0.1:${await freePort()}`],
      {},
    );
    assert.notEqual(again.code, 0);
    assert.match(again.stderr, /running|in use|locked/);
    await assertUnharmed();
  });

  test("a PostgreSQL of another major version is refused, with both versions", async () => {
    const distrib = join(env.dir, "postgres13");
    mkdirSync(join(distrib, "bin"), { recursive: true });
    for (const program of ["postgres", "initdb", "pg_ctl"]) {
      const path = join(distrib, "bin", program);
      writeFileSync(path, `#!/bin/sh\necho "${program} (PostgreSQL) 13.4"\n`);
      chmodSync(path, 0o755);
    }
    const refused = await runZenith(["init", "--pg-distrib-dir", distrib], {
      ZENITH_REPO_DIR: join(env.dir, "never"),
    });
    assert.notEqual(refused.code, 0);
    assert.match(refused.stderr, /13\.4/);
    assert.match(refused.stderr, /14.*15.*16.*17.*18/);
    assert.ok(!readdirSync(env.dir).includes("never"));
  });

  test("a compute whose timeline or tenant is unknown to the page server says which", async () => {
    const conf = main.paths.config;
    const content = readFileSync(conf, "utf8");
    const unknown = generateTenantId();
    for (const setting of ["zenith.zenith_tenant", "zenith.zenith_timeline"]) {
      writeFileSync(conf, `${content}\n${setting} = '${unknown}'\n`);
      const failed = await env.tryZenith("pg", "start", "main");
      assert.notEqual(failed.code, 0);
      assert.match(failed.stderr, new RegExp(unknown));
    }
    writeFileSync(conf, content);
    await assertUnharmed();
  });
});

/** Only root can mount a file system that is small enough to fill. What every write does then is in the unit tests. */
if (process.getuid?.() === 0) {
  describe("a full disk", () => {
    test("holds commits up with a clear error, and nothing is lost when there is room again", async () => {
      // With safekeepers it is their disks that count: safekeeper_faults.test.ts.
      await using small = await ZenithEnv.create({ safekeepers: 0 });
      const pg = await small.startCompute("main");
      await pg.query("CREATE TABLE t (n int, v text)");
      await pg.stop();
      await small.pageserver.stop();
      const tenants = small.paths.pageserver.tenants;
      run("mv", tenants, `${tenants}.moved`);
      mkdirSync(tenants);
      run("mount", "-t", "tmpfs", "-o", "size=50m", "tmpfs", tenants);
      try {
        run("cp", "-a", `${tenants}.moved/.`, tenants);
        await small.pageserver.start();
        await pg.start();
        const load = pg.query("INSERT INTO t SELECT n, repeat('x', 1000) FROM generate_series(1, 60000) n");
        await until(
          "the page server says that the disk is full",
          () => /ENOSPC|no space/i.test(small.pageserver.log()),
        );
        assert.equal(await isDone(load), false, "nothing is acknowledged that is not durable");
        run("mount", "-o", "remount,size=500m", tenants);
        await load;
        await pg.query("INSERT INTO t VALUES (0, 'after')");
        await pg.restart();
        assert.equal(await pg.value(COUNT), 60001);
        await pg.stop();
        await small.pageserver.kill9();
        await small.pageserver.start();
        await pg.start();
        assert.equal(await pg.value(COUNT), 60001);
        await pg.stop();
        await small.pageserver.stop();
      } finally {
        small.killEverything();
        run("umount", "-l", tenants);
      }
    });
  });
}

function run(program: string, ...args: string[]): void {
  const done = spawnSync(program, args, { encoding: "utf8" });
  assert.equal(done.status, 0, `${program} ${args.join(" ")}: ${done.stderr}`);
}

async function isDone(promise: Promise<unknown>): Promise<boolean> {
  return await Promise.race([
    promise.then(() => true, () => true),
    new Promise<boolean>((r) => setTimeout(() => r(false), 100)),
  ]);
}
