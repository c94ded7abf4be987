/** What is no whole backup of one cluster is refused by name, and nothing of it is left. */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { generateTenantId } from "../../src/common/id.ts";
import { makeOwnedDirectory, pgUser } from "../../src/pg_install/pg_user.ts";
import { zenithCommand } from "../harness/cli.ts";
import { backUp } from "../harness/backup.ts";
import { StockCluster } from "../harness/stock_cluster.ts";
import { until, ZenithEnv } from "../harness/zenith_env.ts";

describe("an import refuses", () => {
  let env: ZenithEnv;
  let directory: string;
  /** Backups of one cluster: plain, in tars, without WAL, and a plain one of another cluster. */
  let plain: string;
  let tars: string;
  let withoutWal: string;
  let other: string;
  /** All WAL of the first cluster. */
  let archive: string;

  before(async () => {
    env = await ZenithEnv.create({ safekeepers: 0 });
    directory = mkdtempSync(join(tmpdir(), "zenith-backups-"));
    makeOwnedDirectory(directory, pgUser());
    [plain, tars, withoutWal, other] = ["plain", "tars", "none", "other"].map((name) =>
      join(directory, name)
    );
    {
      await using cluster = await StockCluster.start();
      await cluster.sql.unsafe("CREATE TABLE t AS SELECT generate_series(1, 1000) n");
      await backUp(cluster, plain, "-Fp");
      await backUp(cluster, tars, "-Ft");
      await backUp(cluster, withoutWal, "-Fp", "-Xnone");
      archive = join(directory, "archive");
      cpSync(join(cluster.dataDir, "pg_wal"), archive, { recursive: true });
    }
    await using cluster = await StockCluster.start();
    await backUp(cluster, other, "-Fp");
  });
  after(async () => {
    await env?.[Symbol.asyncDispose]();
    rmSync(directory, { recursive: true, force: true });
  });

  /** A copy of a backup that `damage` has changed. */
  function damaged(backup: string, damage: (copy: string) => void): string {
    const copy = join(directory, "copy");
    rmSync(copy, { recursive: true, force: true });
    cpSync(backup, copy, { recursive: true });
    damage(copy);
    return copy;
  }

  async function assertRefused(args: readonly string[], why: RegExp): Promise<void> {
    const before = await env.zenith("tenant", "list");
    const result = await env.tryZenith("import", ...args);
    assert.notEqual(result.code, 0, result.stdout);
    assert.match(result.stderr, why);
    assert.equal(await env.zenith("tenant", "list"), before);
    const { tenants } = env.paths.pageserver;
    await until(
      "nothing of the import is left",
      () => readdirSync(tenants).every((name) => !name.endsWith(".creating")),
    );
  }

  const segmentsOf = (backup: string) =>
    readdirSync(join(backup, "pg_wal")).filter((name) => name.length === 24).sort();

  test("a tar that is cut short", async () => {
    const size = readFileSync(join(tars, "base.tar")).length;
    const cut = damaged(tars, (copy) => truncateSync(join(copy, "base.tar"), Math.floor(size / 2) + 100));
    await assertRefused([cut], /base\.tar can't be read as a tar: .*[Uu]nexpected end/);
  });

  test("a compressed tar that is cut short", async () => {
    const cut = damaged(tars, (copy) => {
      spawnSync("gzip", [join(copy, "base.tar")]);
      truncateSync(join(copy, "base.tar.gz"), 100_000);
    });
    await assertRefused([cut], /base\.tar\.gz can't be read as a tar: .*unexpected end/);
  });

  test("a backup without WAL, unless the WAL is elsewhere", async () => {
    await assertRefused([withoutWal], /WAL segment 0{7}1[0-9A-F]{16} is missing.*\nhint: .*--wal/);
  });

  test("a segment of WAL that is cut short", async () => {
    const cut = damaged(plain, (copy) => truncateSync(join(copy, "pg_wal", segmentsOf(copy)[0]!), 1 << 20));
    await assertRefused([cut], /WAL segment [0-9A-F]{24} has 1048576 bytes, expected 16777216/);
  });

  test("a backup that never ended", async () => {
    const endless = damaged(plain, (copy) => {
      const segment = join(copy, "pg_wal", segmentsOf(copy)[0]!);
      const label = readFileSync(join(copy, "backup_label"), "utf8");
      const checkpoint = Number.parseInt(/CHECKPOINT LOCATION: 0\/([0-9A-F]+)/.exec(label)![1]!, 16);
      const bytes = readFileSync(segment);
      // The checkpoint's record is there, and nothing after it.
      bytes.fill(0, checkpoint % bytes.length + 120);
      writeFileSync(segment, bytes);
    });
    await assertRefused([endless], /the WAL of the backup ends at 0\/[0-9A-F]+, before the backup does/);
  });

  test("WAL of another cluster", async () => {
    const mixed = damaged(plain, (copy) => {
      for (const name of segmentsOf(copy)) rmSync(join(copy, "pg_wal", name));
      const [first] = segmentsOf(plain);
      cpSync(join(other, "pg_wal", segmentsOf(other)[0]!), join(copy, "pg_wal", first!));
    });
    await assertRefused([mixed], /is of system \d+, the backup of \d+: they are two clusters/);
  });

  test("two backups in one directory", async () => {
    const both = damaged(plain, (copy) => cpSync(join(tars, "base.tar"), join(copy, "base.tar")));
    await assertRefused([both], /holds more than one backup: a data directory, base\.tar/);
  });

  test("two clusters in one tar", async () => {
    const tar = join(directory, "both.tar");
    spawnSync("tar", ["-cf", tar, "-C", plain, "."]);
    spawnSync("tar", ["-rf", tar, "-C", other, "global/pg_control"]);
    await assertRefused([tar], /global\/pg_control comes twice: these are the files of two clusters/);
  });

  test("a manifest that is damaged, and files that are not as it says", async () => {
    const manifest = damaged(plain, (copy) => {
      const path = join(copy, "backup_manifest");
      writeFileSync(path, readFileSync(path, "utf8").replace('"Size": 3', '"Size": 4'));
    });
    await assertRefused([manifest], /backup_manifest is damaged: its checksum is [0-9a-f]{64}/);
    const page = damaged(plain, (copy) => {
      const path = join(copy, "base/1/1259");
      const bytes = readFileSync(path);
      bytes[5000] ^= 1;
      writeFileSync(path, bytes);
    });
    await assertRefused([page], /the backup is damaged: base\/1\/1259 has the CRC32C checksum/);
    const missing = damaged(plain, (copy) => rmSync(join(copy, "base/1/1259")));
    await assertRefused([missing], /the backup is damaged: base\/1\/1259 is missing/);
  });

  test("a directory that is none, and a cluster that was killed", async () => {
    await assertRefused([join(directory, "nowhere")], /there is nothing at .*nowhere/);
    const empty = join(directory, "empty");
    mkdirSync(empty);
    await assertRefused([empty], /is no backup: it has neither PG_VERSION nor base\.tar/);
    const killed = damaged(plain, (copy) => rmSync(join(copy, "backup_label")));
    await assertRefused([killed], /was not shut down cleanly, and there is no backup_label/);
  });

  test("a name that is taken, and an import that its client or its server leaves", async () => {
    await assertRefused([plain, "--tenantid", env.defaultTenant], /already exists/);
    const tenant = generateTenantId();
    const begin = async () => {
      const [file, ...args] = [...zenithCommand(), "import", "-", "--tenantid", tenant];
      const client = spawn(file!, args, {
        env: { ...process.env, ZENITH_REPO_DIR: env.repoDir },
        stdio: ["pipe", "ignore", "ignore"],
      });
      client.stdin.on("error", () => {});
      client.stdin.write(readFileSync(join(tars, "base.tar")).subarray(0, 5 << 20));
      await until("the import has begun", () => names().includes(`${tenant}.creating`));
      return client;
    };
    const names = () => readdirSync(env.paths.pageserver.tenants);
    const left = await begin();
    left.kill("SIGKILL");
    await until("nothing of it is left", () => !names().includes(`${tenant}.creating`));
    const orphan = await begin();
    await env.pageserver.kill9();
    orphan.kill("SIGKILL");
    await env.pageserver.start();
    assert.ok(!names().some((name) => name.startsWith(tenant)), names().join(" "));
    // The same id can be imported now, and by way of a pipe.
    await env.zenith("import", plain, "--tenantid", tenant);
    assert.match(await env.zenith("tenant", "list"), new RegExp(tenant));
  });

  test("but not a backup whose WAL is in an archive", async () => {
    const result = await env.zenith("import", withoutWal, "--wal", archive);
    assert.match(result, /history from/);
  });
});
