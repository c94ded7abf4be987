/** Backups in pgBackRest's repositories and WAL in its archive, as it has written them. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { cpSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { parseTenantId, type TenantId } from "../../src/common/id.ts";
import { findProgram } from "../../src/process/find_program.ts";
import { backUp } from "../harness/backup.ts";
import { PgBackRest } from "../harness/pgbackrest.ts";
import { amcheck } from "../harness/programs.ts";
import { StockCluster } from "../harness/stock_cluster.ts";
import { ZenithEnv } from "../harness/zenith_env.ts";

/** What Debian's pgBackRest goes with. */
const MAJOR = 15;
const PASSPHRASE = "a passphrase";
const OPENS = { PGBACKREST_REPO1_CIPHER_PASS: PASSPHRASE };

const CONTENT = "SELECT count(*) || ' ' || sum(hashtextextended(v::text, 0)) FROM " +
  "(TABLE t UNION ALL TABLE far UNION ALL TABLE late) v";

const skip = findProgram("pgbackrest") === undefined ? "there is no pgbackrest here" : false;

describe("an import from an archive", { skip }, () => {
  let env: ZenithEnv;
  let cluster: StockCluster;
  let tool: PgBackRest;
  /** What the cluster had when its last WAL was archived. */
  let expected: unknown;
  /** A backup without WAL, by pg_basebackup. */
  let plain: string;

  before(async () => {
    env = await ZenithEnv.create({ safekeepers: 0 });
    cluster = await StockCluster.start({ major: MAJOR });
    const location = join(cluster.directory, "space");
    spawnSync("install", ["-d", "-o", "postgres", location]);
    const { sql } = cluster;
    const filled = (n: number) => `SELECT n, repeat(md5(n::text), 10) FROM generate_series(1, ${n}) n`;
    await sql.unsafe(`CREATE TABLESPACE space LOCATION '${location}'`);
    await sql.unsafe(`CREATE TABLE far (n int, v text) TABLESPACE space`);
    await sql.unsafe(`CREATE TABLE t (n int PRIMARY KEY, v text); INSERT INTO t ${filled(5000)}`);
    await sql.unsafe("CREATE TABLE late (n int, v text)");
    tool = new PgBackRest(cluster, [
      { bundle: "y", "cipher-type": "aes-256-cbc", "cipher-pass": PASSPHRASE },
      {},
    ]);
    await tool.startArchiving();
    const backup = (repo: number, type: string, ...options: string[]) =>
      tool.run("backup", `--repo=${repo}`, `--type=${type}`, ...options);
    await backup(1, "full", "--compress-type=zst");
    await backup(2, "full", "--compress-type=bz2");
    await cluster.sql.unsafe(`INSERT INTO far ${filled(1000)}; UPDATE t SET v = 'new' WHERE n % 100 = 0`);
    await backup(1, "diff");
    await cluster.sql.unsafe(`INSERT INTO far ${filled(10)}; DROP TABLE late`);
    await backup(1, "incr");
    plain = join(cluster.directory, "plain");
    await backUp(cluster, plain, "-Ft", "-Xnone");
    await cluster.sql.unsafe(`CREATE TABLE late AS ${filled(100)}`);
    await tool.archiveAll();
    [expected] = Object.values((await cluster.sql.unsafe(CONTENT))[0]!);
  });
  after(async () => {
    await cluster?.[Symbol.asyncDispose]();
    await env?.[Symbol.asyncDispose]();
  });

  async function importFrom(args: readonly string[], variables: Readonly<Record<string, string>> = {}) {
    const result = await env.tryZenithWith(variables, "import", ...args, "--json");
    assert.equal(result.code, 0, result.stderr);
    const imported = JSON.parse(result.stdout) as { tenant_id: string; verified: string };
    assert.equal(imported.verified, "checksums");
    return parseTenantId(imported.tenant_id);
  }

  async function assertHasAll(tenant: TenantId): Promise<void> {
    const pg = await env.startCompute("main", tenant);
    try {
      assert.equal(await pg.value(CONTENT, [], { user: "postgres" }), expected);
      await amcheck(pg, ["postgres"]);
    } finally {
      await pg.stop();
    }
  }

  test("has what an incremental backup refers to, out of encrypted bundles, and the WAL since", async () => {
    await assertHasAll(await importFrom(["--archive", tool.repository(1)], OPENS));
  });

  test("takes a backup that is named, of single files by bzip2, and all WAL", async () => {
    const [label] = readdirSync(join(tool.repository(2), "backup/main")).filter((name) => name.endsWith("F"));
    await assertHasAll(await importFrom(["--archive", tool.repository(2), "--backup", label!]));
  });

  test("takes the WAL of another tool's backup from a repository", async () => {
    await assertHasAll(await importFrom([plain, "--wal", tool.repository(2)]));
  });

  test("refuses what is not there, what is closed and what is damaged, and leaves nothing", async () => {
    const before = await env.zenith("tenant", "list");
    const refuse = async (args: readonly string[], why: RegExp, variables = {}) => {
      const result = await env.tryZenithWith(variables, "import", ...args);
      assert.notEqual(result.code, 0, result.stdout);
      assert.match(result.stderr, why);
      assert.doesNotMatch(result.stderr, new RegExp(PASSPHRASE));
      assert.equal(await env.zenith("tenant", "list"), before);
    };
    const closed = ["--archive", tool.repository(1)];
    await refuse(closed, /backup\.info is encrypted\nhint: set PGBACKREST_REPO1_CIPHER_PASS/);
    await refuse(closed, /backup\.info .*(decrypted|damaged)/, { PGBACKREST_REPO1_CIPHER_PASS: "another" });
    await refuse([...closed, "--stanza", "other"], /has no stanza other\nhint: it has main/, OPENS);
    await refuse([...closed, "--backup", "none"], /has no backup none\nhint: it has \d{8}-/, OPENS);
    await refuse(["--archive", plain], /is no pgBackRest repository/);
    await refuse([], /what is to be imported\?/);
    await refuse([plain, ...closed], /leave out the others/);

    const copy = join(env.dir, "copy");
    const damaged = (change: (backup: string, wal: string) => void) => {
      rmSync(copy, { recursive: true, force: true });
      cpSync(tool.repository(2), copy, { recursive: true });
      const backups = join(copy, "backup/main");
      const [label] = readdirSync(backups).filter((name) => name.endsWith("F"));
      change(join(backups, label!), join(copy, "archive/main/15-1/0000000100000000"));
      return ["--archive", copy];
    };
    const flip = (path: string) => {
      const bytes = readFileSync(path);
      bytes[bytes.length >> 1]! ^= 1;
      writeFileSync(path, bytes);
    };
    await refuse(
      damaged((backup) => flip(join(backup, "pg_data/PG_VERSION.bz2"))),
      /is damaged: pg_data\/PG_VERSION can't be unpacked: the bzip2 data is damaged/,
    );
    await refuse(
      damaged((backup) => rmSync(join(backup, "pg_data/PG_VERSION.bz2"))),
      /there is no .*pg_data\/PG_VERSION\.bz2/,
    );
    await refuse(
      damaged((_backup, wal) => rmSync(wal, { recursive: true })),
      /WAL segment 00000001[0-9A-F]{16} is missing/,
    );
  });
});
