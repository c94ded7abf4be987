/** The reference of the benchmarks of commits: a stock Postgres with one synchronous standby, as simple as there is. */
import { type ChildProcess, spawn } from "node:child_process";
import { join } from "node:path";
import { postgresEnvironment } from "../../src/pg_install/initdb.ts";
import { asUser, makeOwnedDirectory, pgUser } from "../../src/pg_install/pg_user.ts";
import { freePort } from "../harness/ports.ts";
import { StockCluster } from "../harness/stock_cluster.ts";
import { until } from "../harness/zenith_env.ts";

const RECEIVER_NAME = "receiver";

/** A stock Postgres, fsync on, whose commits wait for a `pg_receivewal --synchronous`. All connect by TCP, as to a compute. */
export class ReplicatedCluster implements AsyncDisposable {
  readonly cluster: StockCluster;
  /** How PostgreSQL's programs are told to connect. */
  readonly target: readonly string[];
  readonly #receiver: ChildProcess;

  static async start(): Promise<ReplicatedCluster> {
    const cluster = await StockCluster.start({
      tcpPort: await freePort(),
      settings: { fsync: "on", wal_level: "replica", synchronous_standby_names: `'${RECEIVER_NAME}'` },
    });
    const target = ["--host=127.0.0.1", `--port=${cluster.port}`, "--username=postgres"];
    const receiver = startReceiver(cluster, target);
    await until("pg_receivewal is the synchronous standby", async () => {
      const rows = await cluster.sql`SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'`;
      return rows.length === 1;
    });
    return new ReplicatedCluster(cluster, target, receiver);
  }

  private constructor(cluster: StockCluster, target: readonly string[], receiver: ChildProcess) {
    this.cluster = cluster;
    this.target = target;
    this.#receiver = receiver;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#receiver.kill("SIGKILL");
    await this.cluster[Symbol.asyncDispose]();
  }
}

/** Archives the cluster's WAL and confirms every flush. */
function startReceiver(cluster: StockCluster, target: readonly string[]): ChildProcess {
  const dir = join(cluster.directory, "received");
  makeOwnedDirectory(dir, pgUser());
  return spawn(
    join(cluster.install.binDir, "pg_receivewal"),
    [...target, "-D", dir, "--synchronous"],
    {
      ...asUser(pgUser()),
      cwd: cluster.directory,
      env: { ...postgresEnvironment(), PGAPPNAME: RECEIVER_NAME },
      stdio: "ignore",
    },
  );
}
