/** How many connections `zenith serve` takes: no more than it can open files for. */
import { CONNECTIONS_SHARE } from "../common/open_files.ts";

/** A client of the Postgres port takes two: its own socket, and the one to its Postgres. */
const FILES_PER_CLIENT = 2;

/** The share of HTTP: half of what is left for files. */
const HTTP_SHARE = (1 - CONNECTIONS_SHARE) / 2;

export interface Room {
  /** Clients of the Postgres port, and those by WebSocket. */
  readonly clients: number;
  /** Connections to the HTTP port. */
  readonly http: number;
  /** Whether the limit on files allows fewer clients than were asked for. */
  readonly isCut: boolean;
  /** What lets more in. */
  readonly hint: string;
}

/**
 * @param maxConnections what somebody wants
 * @param openFiles how many files this process may have open; Infinity for any number
 */
export function roomFor(maxConnections: number, openFiles: number): Room {
  const clients = Math.floor((openFiles * CONNECTIONS_SHARE) / FILES_PER_CLIENT);
  const isCut = clients < maxConnections;
  return {
    clients: Math.max(1, Math.min(maxConnections, clients)),
    http: Math.max(1, Math.min(maxConnections, Math.floor(openFiles * HTTP_SHARE))),
    isCut,
    hint: isCut
      ? `zenith serve may open ${openFiles} files, so ${clients} clients: a higher limit (LimitNOFILE=, ulimit -n) allows more`
      : "zenith serve --max-connections allows more",
  };
}
