/**
 * Finds where a replica starts: at an online checkpoint of the branch's Postgres, which has the
 * list of the transactions that run. A replica that started from anything else would take them for
 * aborted, and note that on pages.
 */
import { ZenithError } from "../common/errors.ts";
import { formatHostPort, type HostPort } from "../common/host_port.ts";
import { formatLsn, type Lsn } from "../common/lsn.ts";
import { sleep } from "../common/sleep.ts";
import { ZENITH_SUPERUSER } from "../pg_install/initdb.ts";
import { PgClient } from "../pgwire/client.ts";
import { checkpointByBaseBackup } from "../pgwire/base_backup.ts";
import { startReplication } from "../pgwire/replication.ts";
import type { PgVersion } from "../postgres/versions/pg_version.ts";
import { WalDecoder } from "../postgres/wal/decoder.ts";
import { WalRecord } from "../postgres/wal/record.ts";
import { isOnlineCheckpoint } from "../postgres/wal/records/xlog.ts";
import { connectServer } from "../protocol/connect.ts";
import { timelineOptions } from "../protocol/wal_connection.ts";
import type { ComputeIdentity } from "./postgres/postgres_conf.ts";

const CONNECT_TIMEOUT_MS = 10_000;
/** A checkpoint writes all dirty pages, however many there are. */
const CHECKPOINT_TIMEOUT_MS = 300_000;
/** The checkpoint's record is on its way when the branch's Postgres says that it is done. */
const ARRIVAL_TIMEOUT_MS = 30_000;

const RETRY_MS = 20;

const APPLICATION_NAME = "zenith_replica";

/**
 * Settings that a standby must have at least at the primary's value, or it takes no connections
 * (CheckRequiredParameterValues in xlogrecovery.c).
 */
export const PRIMARY_SETTINGS = [
  "max_connections",
  "max_worker_processes",
  "max_wal_senders",
  "max_prepared_transactions",
  "max_locks_per_transaction",
] as const;

export type PrimarySettings = Readonly<Record<typeof PRIMARY_SETTINGS[number], number>>;

export interface ReplicaStart {
  /** Where replay starts. */
  readonly redoLsn: Lsn;
  /** The checkpoint's record. */
  readonly checkpointLsn: Lsn;
  /** The end of that record: the replica's pages are of this moment. */
  readonly lsn: Lsn;
  readonly settings: PrimarySettings;
  /** The primary's `wal_level`. */
  readonly walLevel: string;
  readonly trackCommitTimestamp: boolean;
}

/**
 * Makes the branch's Postgres write a checkpoint, and waits until a safekeeper has it.
 *
 * @param source the branch's Postgres, and its superuser's password
 * @throws {ZenithError} `unavailable`, `timeout`; what Postgres reports when it refuses
 */
export async function findReplicaStart(
  source: { readonly primary: HostPort; readonly password: string },
  compute: ComputeIdentity,
  pg: PgVersion,
  segmentSize: number,
): Promise<ReplicaStart> {
  const signal = AbortSignal.timeout(CHECKPOINT_TIMEOUT_MS);
  const client = await PgClient.connect({
    ...source.primary,
    user: ZENITH_SUPERUSER,
    password: source.password,
    applicationName: APPLICATION_NAME,
    replication: true,
    connectTimeoutMs: CONNECT_TIMEOUT_MS,
    signal,
  });
  try {
    const show = async (name: string): Promise<string> => (await client.query(`SHOW ${name}`)).rows[0]![0]!;
    const settings: Record<string, number> = {};
    for (const name of PRIMARY_SETTINGS) settings[name] = Number(await show(name));
    const walLevel = await show("wal_level");
    const trackCommitTimestamp = await show("track_commit_timestamp") === "on";
    const redoLsn = await checkpointByBaseBackup(client, APPLICATION_NAME);
    const found = await findCheckpoint(compute, pg, segmentSize, redoLsn);
    return { ...found, redoLsn, settings: settings as PrimarySettings, walLevel, trackCommitTimestamp };
  } finally {
    client.destroy();
  }
}

interface FoundCheckpoint {
  readonly checkpointLsn: Lsn;
  readonly lsn: Lsn;
}

async function findCheckpoint(
  compute: ComputeIdentity,
  pg: PgVersion,
  segmentSize: number,
  redoLsn: Lsn,
): Promise<FoundCheckpoint> {
  const deadline = Date.now() + ARRIVAL_TIMEOUT_MS;
  for (;;) {
    let failure: unknown;
    for (const safekeeper of compute.walAcceptors) {
      try {
        return await findCheckpointAt(safekeeper, compute, pg, segmentSize, redoLsn);
      } catch (error) {
        failure = error;
      }
    }
    // The safekeepers may not have got there yet.
    if (Date.now() > deadline) throw failure;
    await sleep(RETRY_MS);
  }
}

/**
 * Reads the committed WAL of a safekeeper up to the checkpoint whose replay starts at `redoLsn`.
 */
async function findCheckpointAt(
  safekeeper: HostPort,
  { tenant, timeline }: ComputeIdentity,
  pg: PgVersion,
  segmentSize: number,
  redoLsn: Lsn,
): Promise<FoundCheckpoint> {
  const client = await connectServer("safekeeper", safekeeper, {
    replication: true,
    applicationName: APPLICATION_NAME,
    options: timelineOptions(tenant, timeline),
    signal: AbortSignal.timeout(ARRIVAL_TIMEOUT_MS),
  });
  try {
    const stream = await startReplication(client, { startLsn: redoLsn });
    const decoder = new WalDecoder({ pg, startLsn: redoLsn, segmentSize });
    const record = new WalRecord();
    return await new Promise((resolve, reject) => {
      stream.run({
        onWal(lsn, bytes, off, len) {
          // The decoder keeps what it is fed, and these bytes are overwritten.
          decoder.feed(bytes.slice(off, off + len), lsn);
          while (decoder.next(record)) {
            if (!isOnlineCheckpoint(record, redoLsn)) continue;
            resolve({ checkpointLsn: record.lsn as Lsn, lsn: record.endLsn as Lsn });
            return;
          }
        },
        onKeepalive() {},
      }).then(
        () =>
          reject(
            new ZenithError(
              "unavailable",
              `the safekeeper ${formatHostPort(safekeeper)} ended before the checkpoint of ${
                formatLsn(redoLsn)
              }`,
            ),
          ),
        reject,
      );
    });
  } finally {
    client.destroy();
  }
}
