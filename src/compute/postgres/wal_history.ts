/** The history of PostgreSQL's timelines in a data directory that was just fetched. */
import { closeSync } from "node:fs";
import { join } from "node:path";
import { ForeignDirectory } from "../../common/foreign_directory.ts";
import { withIoErrors } from "../../common/errors.ts";
import type { PgUser } from "../../pg_install/pg_user.ts";
import { FIRST_TIMELINE, parseHistoryFile, type WalTimelines } from "../../postgres/wal/wal_timelines.ts";

/** More than the history of all timelines that there may be. */
const HISTORY_MAX_BYTES = 1 << 20;

const STATUS_MODE = 0o600;

const HISTORY_FILE = /^[0-9A-F]{8}\.history$/;

/**
 * Returns the timelines that its WAL has run through.
 *
 * @throws {ZenithError} `io`, `corrupt_data`
 */
export function readWalHistory(pgdata: string): WalTimelines {
  using root = ForeignDirectory.open(pgdata);
  using wal = root.directory("pg_wal");
  const newest = newestHistory(wal);
  if (newest === undefined) return FIRST_TIMELINE;
  const text = new TextDecoder().decode(wal.read(newest, HISTORY_MAX_BYTES));
  return parseHistoryFile(text, join(wal.path, newest));
}

/**
 * Makes Postgres archive the history of its timeline, which no archive has yet, if it archives at
 * all.
 *
 * @throws {ZenithError} `io`
 */
export function haveHistoryArchived(pgdata: string, user: PgUser | undefined): void {
  using root = ForeignDirectory.open(pgdata);
  using wal = root.directory("pg_wal");
  const newest = newestHistory(wal);
  if (newest === undefined) return;
  using status = wal.directory("archive_status");
  withIoErrors("write", join(status.path, `${newest}.ready`), () => {
    closeSync(status.createFile(`${newest}.ready`, STATUS_MODE, user));
    status.remove(`${newest}.done`);
  });
}

function newestHistory(wal: ForeignDirectory): string | undefined {
  return wal.names().filter((name) => HISTORY_FILE.test(name)).sort().at(-1);
}
