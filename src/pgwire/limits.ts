/**
 * Bounds on what a peer can make this process hold or wait for. All sizes are bytes, all times
 * milliseconds.
 */
import { assert } from "../common/assert.ts";
import { CONNECTIONS_SHARE } from "../common/open_files.ts";

/**
 * PostgreSQL's MAX_STARTUP_PACKET_LENGTH (libpq/pqcomm.h): nothing before authentication needs
 * more.
 */
export const STARTUP_PACKET_MAX_BYTES = 10_000;

/** Query text, and the parameters of one Bind. Our commands take some hundred bytes. */
export const QUERY_MAX_BYTES = 64 * 1024;

/** Messages whose body is a name or nothing at all; PostgreSQL's PQ_SMALL_MESSAGE_LIMIT. */
export const SMALL_MESSAGE_MAX_BYTES = 10_000;

/**
 * One CopyData message, in either direction. A walsender sends 128 KiB at a time, a proposer some
 * MiB at most.
 */
export const COPY_DATA_MAX_BYTES = 16 * 1024 * 1024;

/**
 * One message from a server that is no CopyData: a row, an error. A row is one JSON column for our
 * lists.
 */
export const SERVER_MESSAGE_MAX_BYTES = 64 * 1024 * 1024;

/** Statements plus portals that one session may keep prepared. */
export const PREPARED_MAX_COUNT = 1000;

/** The limit for all of them together: text and parameters, as they are in memory. */
export const PREPARED_MAX_BYTES = 1024 * 1024;

/** Bytes that a client may send ahead while its query runs; beyond it the socket is not read. */
export const READ_AHEAD_MAX_BYTES = 1024 * 1024;

/**
 * Pieces that those bytes may come in: each takes some hundred bytes of its own, even if it holds
 * but one.
 */
export const READ_AHEAD_MAX_CHUNKS = 1024;

/**
 * Output above this is backpressure: `send` returns false, and a server stops taking requests of
 * that connection.
 */
export const WRITE_HIGH_WATER_BYTES = 1024 * 1024;

/** Output has drained when no more than this is left unwritten. */
export const WRITE_LOW_WATER_BYTES = 256 * 1024;

/** CopyData messages of a COPY OUT carry at most this much, so that they fit a pooled buffer. */
export const COPY_OUT_CHUNK_BYTES = 64 * 1024;

/** From accept to the end of the startup packet. A peer that trickles bytes is cut off. */
export const STARTUP_TIMEOUT_MS = 10_000;

/**
 * The maximum number of a server's connections; fewer if the process may open few files, see
 * {@link connectionLimits}.
 */
export const MAX_CONNECTIONS = 1000;

/**
 * The last of these are for clients on the same machine, so that an operator gets in when the
 * network has filled the server.
 */
export const RESERVED_CONNECTIONS = 16;

/** Connections above the maximum that still get an answer with the reason for the refusal. */
export const REFUSED_CONNECTIONS_MAX = 64;

/** A connection that is idle for this long ends. A stream counts as a running command. */
export const IDLE_TIMEOUT_MS = 10 * 60_000;

/**
 * When the server is full, the connection that has been idle longest gives way, if it was idle at
 * least this long.
 */
export const IDLE_GIVES_WAY_MS = 1_000;

/** How often a server looks for idle connections. */
export const IDLE_CHECK_MS = 30_000;

/**
 * How much of its peer's data one connection may hold: the arriving message, read-ahead, prepared
 * statements, output.
 */
export const CONNECTION_MAX_BYTES = 24 * 1024 * 1024;

/**
 * How much all connections of a server may hold together. Beyond it newcomers are refused, and a
 * connection that wants to hold more is ended, unless it holds little.
 */
export const SERVER_HELD_MAX_BYTES = 256 * 1024 * 1024;

/** A connection that holds no more than this is not ended for what others hold. */
export const CONNECTION_FREE_BYTES = 64 * 1024;

/**
 * How long a closing server waits for running queries and unwritten output before it cuts
 * connections.
 */
export const SHUTDOWN_GRACE_MS = 5_000;

/**
 * After a connection's last message: how long the peer may take to read it and to close its side.
 */
export const LINGER_MS = 1_000;

/** Silence after which the kernel probes a peer; finds the ones that vanished without a FIN. */
export const TCP_KEEPALIVE_MS = 30_000;

export const CONNECT_TIMEOUT_MS = 10_000;

/** A server with fewer connections is useless. */
const CONNECTIONS_MIN = 32;

assert(
  COPY_DATA_MAX_BYTES + READ_AHEAD_MAX_BYTES + PREPARED_MAX_BYTES + 2 * WRITE_HIGH_WATER_BYTES <=
    CONNECTION_MAX_BYTES,
  "what a connection may hold is the sum of its parts",
);
assert(
  MAX_CONNECTIONS * CONNECTION_FREE_BYTES + 4 * CONNECTION_MAX_BYTES <= SERVER_HELD_MAX_BYTES,
  "while all connections hold little, some may hold as much as one may",
);
assert(QUERY_MAX_BYTES <= READ_AHEAD_MAX_BYTES, "a query can be read ahead");
assert(WRITE_LOW_WATER_BYTES < WRITE_HIGH_WATER_BYTES, "output drains below the mark that it rose above");
assert(
  STARTUP_PACKET_MAX_BYTES < QUERY_MAX_BYTES,
  "nothing before authentication is larger than what comes after",
);
assert(RESERVED_CONNECTIONS < CONNECTIONS_MIN, "not all places are reserved");
assert(IDLE_GIVES_WAY_MS < IDLE_CHECK_MS && IDLE_CHECK_MS < IDLE_TIMEOUT_MS, "idle times are told apart");

/**
 * How many connections a process with this limit on open files may have: each takes a descriptor.
 */
export function connectionLimits(
  openFiles: number,
): { readonly connections: number; readonly refused: number } {
  const share = Math.floor(openFiles * CONNECTIONS_SHARE);
  const refused = Math.min(REFUSED_CONNECTIONS_MAX, Math.floor(share / 16));
  return { connections: Math.max(CONNECTIONS_MIN, Math.min(MAX_CONNECTIONS, share - refused)), refused };
}
