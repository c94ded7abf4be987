/** Runs a schedule and looks at its WAL in between, so that a disk holds no more of it than one part has written. */
import type { WalRecord } from "../../src/postgres/wal/record.ts";
import type { StockCluster } from "./cluster.ts";
import { WalReplay } from "./replay.ts";
import type { Schedule } from "./schedules.ts";

/** Starts the cluster, runs the schedule, stops the cluster. `visit` sees every record in order, each once. */
export async function runChecked(
  cluster: StockCluster,
  schedule: Schedule,
  visit: (rec: WalRecord) => void,
): Promise<void> {
  const replay = new WalReplay(cluster.pg, cluster.dataDir, cluster.baseLsn());
  cluster.start();
  await schedule.run(cluster, () => {
    const lsn = cluster.flushLsn();
    replay.advance(visit, lsn);
    cluster.forgetWal(lsn);
  });
  cluster.stop();
  replay.advance(visit);
}
