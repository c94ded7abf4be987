/**
 * From the name of a backup in a pgBackRest repository to the first answer of a branch: `zenith follow --lazy`, against
 * `pgbackrest restore` and the start of the restored cluster. `npm run bench -- mount [MB …]`, by default 1000 MB.
 */
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { spawnSync } from "node:child_process";
import { asUser, makeOwnedDirectory, pgUser } from "../../src/pg_install/pg_user.ts";
import { PgBackRest } from "../harness/pgbackrest.ts";
import { StockCluster } from "../harness/stock_cluster.ts";
import { until, ZenithEnv } from "../harness/zenith_env.ts";
import { useExecutable } from "./harness.ts";

const DEFAULT_SIZES_MB = [1000];
/** What Debian's pgBackRest goes with. */
const MAJOR = 15;
/** Of a row of pgbench_accounts, with its index entry. */
const BYTES_PER_ROW = 150;
const AS = { user: "postgres" };
const SMALL = "SELECT count(*) FROM branches";
const LARGE = "SELECT filler FROM accounts WHERE aid = 4711";

async function timed(run: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await run();
  return (performance.now() - start) / 1000;
}

async function measure(megabytes: number): Promise<void> {
  await using cluster = await StockCluster.start({ major: MAJOR, settings: { max_wal_size: "'4GB'" } });
  const tool = new PgBackRest(cluster, [{ bundle: "y" }]);
  await tool.startArchiving();
  const rows = Math.floor(megabytes * 1e6 / BYTES_PER_ROW);
  await cluster.sql.unsafe("CREATE TABLE branches AS SELECT n bid FROM generate_series(1, 100) n");
  await cluster.sql.unsafe(
    "CREATE TABLE accounts AS SELECT n aid, n % 100 bid, (random() * 1e6)::int abalance, rpad(md5(n::text), 84) filler " +
      `FROM generate_series(1, ${rows}) n`,
  );
  await cluster.sql.unsafe("ALTER TABLE accounts ADD PRIMARY KEY (aid)");
  await cluster.sql.unsafe("CHECKPOINT");
  await tool.run("backup", "--type=full", "--compress-type=gz");
  await tool.archiveAll();
  await cluster.stopPostgres();

  await using env = await ZenithEnv.create({ safekeepers: 0 });
  const line = (what: string, seconds: number) => console.log(`${what.padEnd(44)} ${seconds.toFixed(1)} s`);
  let tenant = "";
  const mounted = await timed(async () => {
    const made = await env.zenith("follow", "prod", "--archive", tool.repository(1), "--lazy", "--json");
    tenant = JSON.parse(made).tenant_id;
  });
  line(`${megabytes} MB: follow --lazy`, mounted);
  let first = mounted;
  const id = tenant as Parameters<typeof env.branch>[2];
  first += await timed(() => env.branch("test", "prod", id));
  const pg = await env.createCompute("test", id);
  first += await timed(() => pg.start());
  first += await timed(() => pg.value(SMALL, [], AS));
  line("first query, of a small table", first);
  line("then a row of the large one, by its index", await timed(() => pg.value(LARGE, [], AS)));
  const rest = await timed(async () => {
    await until(
      "all is copied",
      async () => JSON.parse(await env.zenith("follow", "list", "--json"))[0].uncopied_bytes === 0,
      600_000,
    );
  });
  line("then, until all is copied", rest);
  await pg.stop();

  const restored = join(cluster.directory, "restored");
  makeOwnedDirectory(restored, pgUser());
  const restore = await timed(() =>
    tool.run("restore", `--pg1-path=${restored}`, "--type=immediate", "--target-action=promote")
  );
  line("pgbackrest restore", restore);
  writeFileSync(join(restored, "postgresql.auto.conf"), "archive_mode = off\n", { flag: "a" });
  const pgCtl = (...args: string[]) =>
    spawnSync(join(cluster.install.binDir, "pg_ctl"), ["-D", restored, "-w", "-t", "600", ...args], {
      ...asUser(pgUser()),
      cwd: restored,
      stdio: "ignore",
    });
  const started = await timed(async () => {
    pgCtl("-l", join(restored, "log"), "start");
    await cluster.sql.unsafe(SMALL);
  });
  line("its start and first query", started);
  line("together", restore + started);
  pgCtl("-m", "immediate", "stop");
  rmSync(restored, { recursive: true, force: true });
}

export async function run(args: readonly string[]): Promise<void> {
  useExecutable();
  for (const megabytes of args.length > 0 ? args.map(Number) : DEFAULT_SIZES_MB) await measure(megabytes);
}
