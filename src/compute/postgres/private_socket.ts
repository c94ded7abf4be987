/**
 * Connects the supervisor to its own Postgres, by a Unix socket that nobody else on the host
 * reaches.
 */
import { closeSync, constants, fstatSync, openSync } from "node:fs";
import { errorMessage, ZenithError } from "../../common/errors.ts";
import { ForeignDirectory } from "../../common/foreign_directory.ts";
import type { PgClient } from "../../pgwire/client.ts";
import { connectPostgres, type PostgresConnectOptions } from "../../protocol/connect.ts";
import { fitsSocketPath } from "./postgres_conf.ts";

/** Postgres works in its data directory, beside which its sockets' directory is. */
const RELATIVE_SOCKET_DIR = "../run";

/**
 * Returns the `unix_socket_directories` of a Postgres: those that its configuration names, and its
 * private one.
 */
export function socketDirectories(configured: string, privateDir: string): string {
  const names = configured.split(",").map((name) => name.trim()).filter((name) => name !== "");
  if (names.includes(privateDir)) return configured;
  return [...names, fitsSocketPath(privateDir) ? privateDir : RELATIVE_SOCKET_DIR].join(", ");
}

/**
 * Removes the socket that a killed Postgres has left, with its lock file. The process that this
 * names may be another by now, or a zombie, and Postgres would then not start.
 */
export function removeLeftSockets(privateDir: string): void {
  using directory = ForeignDirectory.open(privateDir);
  for (const name of directory.names()) if (name.startsWith(SOCKET_PREFIX)) directory.remove(name);
}

const SOCKET_PREFIX = ".s.PGSQL.";

/** A way into the local Postgres that needs no password. */
export type ConnectLocally = (options: Omit<PostgresConnectOptions, "role">) => Promise<PgClient>;

/** O_PATH, on x64 and arm64: the file itself, neither for reading nor for writing. */
const O_PATH = 0o10000000;

/** A Postgres on this host. */
export interface LocalSocket {
  /** The private directory of its Unix socket. Its superuser can put anything there. */
  readonly directory: string;
  readonly port: number;
}

/**
 * Connects by the private socket. Its name may have become a link to another compute's socket,
 * where root would be let in, too. So no link is followed.
 *
 * @throws {ZenithError} `unavailable` when there is no socket; otherwise as `PgClient.connect`
 */
export async function connectPrivately(
  socket: LocalSocket,
  options: PostgresConnectOptions,
): Promise<PgClient> {
  const fd = openSocketFile(socket);
  try {
    return await connectPostgres({ host: "localhost", port: socket.port }, {
      ...options,
      socketPath: `/proc/self/fd/${fd}`,
    });
  } finally {
    closeSync(fd);
  }
}

function openSocketFile({ directory, port }: LocalSocket): number {
  const name = `${SOCKET_PREFIX}${port}`;
  try {
    using opened = ForeignDirectory.open(directory);
    const fd = openSync(`${opened.descriptorPath}/${name}`, O_PATH | constants.O_NOFOLLOW);
    if (fstatSync(fd).isSocket()) return fd;
    closeSync(fd);
  } catch (error) {
    throw new ZenithError("unavailable", `${directory}/${name}: ${errorMessage(error)}`, { cause: error });
  }
  throw new ZenithError("unavailable", `${directory}/${name} is no socket`);
}
