/** Base backups of a stock cluster, by its own pg_basebackup or, where there is none, by the protocol that it uses. */
import { existsSync, mkdirSync } from "node:fs";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { PgClient } from "../../src/pgwire/client.ts";
import type { StockCluster } from "./stock_cluster.ts";

// Messages of a base backup's stream: "Streaming Replication Protocol", BASE_BACKUP.
const NEW_ARCHIVE = 0x6e;
const MANIFEST = 0x6d;
const DATA = 0x64;

/**
 * Makes `base.tar` and `backup_manifest` in a new directory; with pg_basebackup, base.tar.gz and pg_wal.tar.gz.
 *
 * @param args of pg_basebackup, in place of `-Ft -z`
 */
export async function backUp(cluster: StockCluster, directory: string, ...args: string[]): Promise<void> {
  if (existsSync(join(cluster.install.binDir, "pg_basebackup"))) {
    const how = args.length === 0 ? ["-Ft", "-z"] : args;
    await cluster.runAside("pg_basebackup", [
      `--host=${cluster.directory}`,
      `--port=${cluster.port}`,
      "--username=postgres",
      "--checkpoint=fast",
      `--pgdata=${directory}`,
      ...how,
    ]);
    return;
  }
  mkdirSync(directory, { recursive: true });
  const client = await PgClient.connect({
    host: cluster.directory,
    port: cluster.port,
    user: "postgres",
    replication: true,
  });
  await using base = await open(join(directory, "base.tar"), "w");
  await using manifest = await open(join(directory, "backup_manifest"), "w");
  try {
    let into = base;
    const command = "BASE_BACKUP (LABEL 'test', WAL true, CHECKPOINT 'fast', MANIFEST 'yes')";
    for await (const message of client.copyOut(command)) {
      if (message[0] === NEW_ARCHIVE) into = base;
      else if (message[0] === MANIFEST) into = manifest;
      else if (message[0] === DATA) await into.write(message.slice(1));
    }
  } finally {
    client.destroy();
  }
}
