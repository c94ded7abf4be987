/** The reference of the benchmarks of commits: a stock Postgres with synchronous standbys, as simple as there are. */
import { type ChildProcess, spawn } from "node:child_process";
import { join } from "node:path";
import { postgresEnvironment } from "../../src/pg_install/initdb.ts";
import { asUser, makeOwnedDirectory, pgUser } from "../../src/pg_install/pg_user.ts";
import { freePort } from "../harness/ports.ts";
import { StockCluster } from "../harness/stock_cluster.ts";
import { until } from "../harness/zenith_env.ts";

/**
 * A stock Postgres, fsync on, whose commits wait for a `pg_receivewal --synchronous`, or for a quorum of several. All connect by TCP,
 * as to a compute.
 */
export class ReplicatedCluster implements AsyncDisposable {
  readonly cluster: StockCluster;
  /** How PostgreSQL's programs are told to connect. */
  readonly target: readonly string[];
  readonly receiverPids: readonly number[];
  readonly #receivers: readonly ChildProcess[];

  /** @param count how many archive the WAL; commits wait for a majority of them */
  static async start(count = 1): Promise<ReplicatedCluster> {
    const names = Array.from({ length: count }, (_, i) => `receiver${i + 1}`);
    const quorum = Math.floor(count / 2) + 1;
    const cluster = await StockCluster.start({
      tcpPort: await freePort(),
      settings: {
        fsync: "on",
        wal_level: "replica",
        synchronous_standby_names: `'ANY ${quorum} (${names.join(", ")})'`,
      },
    });
    const target = ["--host=127.0.0.1", `--port=${cluster.port}`, "--username=postgres"];
    const receivers = names.map((name) => startReceiver(cluster, target, name));
    await until("each pg_receivewal is a synchronous standby", async () => {
      const rows = await cluster.sql`SELECT 1 FROM pg_stat_replication WHERE sync_state = 'quorum'`;
      return rows.length === count;
    });
    return new ReplicatedCluster(cluster, target, receivers);
  }

  private constructor(
    cluster: StockCluster,
    target: readonly string[],
    receivers: readonly ChildProcess[],
  ) {
    this.cluster = cluster;
    this.target = target;
    this.#receivers = receivers;
    this.receiverPids = receivers.map(({ pid }) => pid!);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const receiver of this.#receivers) receiver.kill("SIGKILL");
    await this.cluster[Symbol.asyncDispose]();
  }
}

/** Archives the cluster's WAL and confirms every flush. */
function startReceiver(cluster: StockCluster, target: readonly string[], name: string): ChildProcess {
  const dir = join(cluster.directory, name);
  makeOwnedDirectory(dir, pgUser());
  return spawn(
    join(cluster.install.binDir, "pg_receivewal"),
    [...target, "-D", dir, "--synchronous"],
    {
      ...asUser(pgUser()),
      cwd: cluster.directory,
      env: { ...postgresEnvironment(), PGAPPNAME: name },
      stdio: "ignore",
    },
  );
}
