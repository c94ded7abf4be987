/** The reference of the benchmarks of commits: a stock Postgres with one synchronous standby, as simple as there is. */
import { type ChildProcess, spawn } from "node:child_process";
import { join } from "node:path";
import { postgresEnvironment } from "../../src/pg_install/initdb.ts";
import { asUser, makeOwnedDirectory, pgUser } from "../../src/pg_install/pg_user.ts";
import type { StockCluster } from "../harness/stock_cluster.ts";
import { until } from "../harness/zenith_env.ts";

const RECEIVER_NAME = "receiver";

/**
 * Starts `pg_receivewal --synchronous`, which archives the cluster's WAL and confirms every flush, and has commits wait for it.
 *
 * @param target how it connects
 */
export async function startReceiver(cluster: StockCluster, target: readonly string[]): Promise<ChildProcess> {
  await cluster.sql.unsafe(`ALTER SYSTEM SET synchronous_standby_names = '${RECEIVER_NAME}'`);
  await cluster.sql`SELECT pg_reload_conf()`;
  const dir = join(cluster.directory, "received");
  makeOwnedDirectory(dir, pgUser());
  const child = spawn(
    join(cluster.install.binDir, "pg_receivewal"),
    [...target, "-D", dir, "--synchronous"],
    {
      ...asUser(pgUser()),
      cwd: cluster.directory,
      env: { ...postgresEnvironment(), PGAPPNAME: RECEIVER_NAME },
      stdio: "ignore",
    },
  );
  await until("pg_receivewal is the synchronous standby", async () => {
    const rows = await cluster.sql`SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'`;
    return rows.length === 1;
  });
  return child;
}
