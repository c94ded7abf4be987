/**
 * Who may connect to a compute: the branch's own `pg_hba.conf` and `pg_ident.conf`, preceded by
 * rules that let the supervisor in. Postgres reads both from files beside its socket. The files in
 * the data directory stay entirely the user's, and nothing in them can lock the supervisor out.
 */
import { join } from "node:path";
import { errorMessage } from "../../common/errors.ts";
import { ForeignDirectory } from "../../common/foreign_directory.ts";
import type { ComputePaths } from "../../common/paths.ts";
import { sleep } from "../../common/sleep.ts";
import { ownUserName, type PgUser } from "../../pg_install/pg_user.ts";
import type { Logger } from "../../process/log.ts";
import { CONF_MODE } from "./postgres_conf.ts";
import { postmasterPid } from "./postgres_process.ts";

const HBA = "pg_hba.conf";
const IDENT = "pg_ident.conf";

/** From this major on, one such file can include another. Before, it is copied. */
const INCLUDE_FROM = 16;

/** The map of operating system users by which the supervisor is known. */
const MAP = "zenith_supervisor";

const FILE_MAX_BYTES = 1 << 20;

export interface ClientAccess {
  readonly paths: ComputePaths;
  readonly user: PgUser | undefined;
  readonly major: number;
  /** The supervisor's role. */
  readonly role: string;
  /** Whether the page server connects to Postgres as that role, with its password. */
  readonly admitsPageServer: boolean;
  /** Whether those get in that the user's own file names. */
  readonly admitsUsers: boolean;
}

/**
 * Writes the files, and returns the settings by which Postgres finds them.
 *
 * @throws {ZenithError} `io`, `disk_full`
 */
export function writeClientAccess(access: ClientAccess): Record<string, string> {
  const { paths, user } = access;
  const self = ownUserName();
  using directory = ForeignDirectory.open(paths.socketDir);
  const write = (name: string, rules: readonly string[]): void => {
    const lines = [`# Made by the supervisor. Change ${join(paths.pgdata, name)} instead.`, ...rules, ""];
    const bytes = Buffer.concat([Buffer.from(lines.join("\n")), usersOwn(access, name)]);
    directory.replaceFile(name, bytes, CONF_MODE, user, false);
  };
  write(HBA, supervisorRules(access, self));
  write(IDENT, self === undefined ? [] : [`${MAP} ${quote(self)} ${quote(access.role)}`]);
  return {
    hba_file: join(paths.socketDir, HBA),
    ident_file: join(paths.socketDir, IDENT),
    // Without a name, Postgres can't tell who we are. Then only its own user, and root, reach it.
    ...(self === undefined ? { unix_socket_permissions: "0700" } : {}),
  };
}

function supervisorRules({ role, admitsPageServer }: ClientAccess, self: string | undefined): string[] {
  const method = self === undefined ? "trust" : `peer map=${MAP}`;
  return [
    `local all,replication ${quote(role)} ${method}`,
    ...(admitsPageServer ? [`host replication ${quote(role)} all scram-sha-256`] : []),
  ];
}

/** Quotes a word, which then means itself: no keyword, no group, no file. */
function quote(word: string): string {
  return `"${word.replaceAll('"', '""')}"`;
}

/** What brings in the user's own file. */
function usersOwn({ paths, major, admitsUsers }: ClientAccess, name: string): Uint8Array {
  if (!admitsUsers) return new Uint8Array(0);
  const path = join(paths.pgdata, name);
  if (major >= INCLUDE_FROM) {
    // A cluster needs no pg_ident.conf.
    return new TextEncoder().encode(`${name === HBA ? "include" : "include_if_exists"} ${quote(path)}\n`);
  }
  using pgdata = ForeignDirectory.open(paths.pgdata);
  return pgdata.lstat(name) === undefined ? new Uint8Array(0) : pgdata.read(name, FILE_MAX_BYTES);
}

/** How soon a change of the user's files is noticed where they are copied. */
const LOOK_MS = 500;

/**
 * Copies the user's files whenever they have changed, and makes Postgres read them, until `signal`
 * is aborted. Where the files are included, Postgres reads them itself.
 */
export async function followClientAccess(
  access: ClientAccess,
  log: Logger,
  signal: AbortSignal,
): Promise<void> {
  if (access.major >= INCLUDE_FROM) return;
  let known = signatureOf(access.paths);
  let problem = "";
  for (;;) {
    await sleep(LOOK_MS, signal);
    if (signal.aborted) return;
    try {
      const signature = signatureOf(access.paths);
      if (signature === known) continue;
      writeClientAccess(access);
      known = signature;
      problem = "";
      const postmaster = postmasterPid(access.paths.pgdata);
      if (postmaster !== undefined) process.kill(postmaster, "SIGHUP");
    } catch (error) {
      if (errorMessage(error) !== problem) {
        log.warn(`a change of ${HBA} has no effect: ${errorMessage(error)}`);
      }
      problem = errorMessage(error);
    }
  }
}

/** Returns a text that changes whenever one of the user's files does. */
function signatureOf({ pgdata }: ComputePaths): string {
  using directory = ForeignDirectory.open(pgdata);
  return [HBA, IDENT].map((name) => {
    const found = directory.lstat(name);
    return `${found?.ino} ${found?.size} ${found?.mtimeMs}`;
  }).join("\n");
}
