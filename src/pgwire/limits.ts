/**
 * Limits what a peer can make this process hold or wait for. All sizes are in bytes, all times in
 * milliseconds.
 */
import { assert } from "../common/assert.ts";
import { CONNECTIONS_SHARE } from "../common/open_files.ts";

/**
 * PostgreSQL's MAX_STARTUP_PACKET_LENGTH (libpq/pqcomm.h). Nothing before authentication needs
 * more.
 */
export const STARTUP_PACKET_MAX_BYTES = 10_000;

/** Query text, and the parameters of one Bind. Zenith's commands take some hundred bytes. */
export const QUERY_MAX_BYTES = 64 * 1024;

/** Messages whose body is a name or empty. PostgreSQL's PQ_SMALL_MESSAGE_LIMIT. */
export const SMALL_MESSAGE_MAX_BYTES = 10_000;

/**
 * One CopyData message, in either direction. A walsender sends 128 KiB at a time, a proposer some
 * MiB at most.
 */
export const COPY_DATA_MAX_BYTES = 16 * 1024 * 1024;

/**
 * One message from a server other than CopyData, such as a row or an error. Zenith's lists are rows
 * of one JSON column.
 */
export const SERVER_MESSAGE_MAX_BYTES = 64 * 1024 * 1024;

/** Statements plus portals that one session may keep prepared. */
export const PREPARED_MAX_COUNT = 1000;

/** The limit for all of them together: their text and parameters, as held in memory. */
export const PREPARED_MAX_BYTES = 1024 * 1024;

/** Bytes that a client may send ahead while its query runs. Beyond this, the socket is not read. */
export const READ_AHEAD_MAX_BYTES = 1024 * 1024;

/**
 * How many chunks those bytes may arrive in. Each takes some hundred bytes itself, even if it holds
 * a single byte.
 */
export const READ_AHEAD_MAX_CHUNKS = 1024;

/**
 * Output above this is backpressure: `send` returns false, and a server stops taking requests from
 * that connection.
 */
export const WRITE_HIGH_WATER_BYTES = 1024 * 1024;

/** Output has drained when no more than this is unwritten. */
export const WRITE_LOW_WATER_BYTES = 256 * 1024;

/** CopyData messages of a COPY OUT carry at most this much, so that they fit a pooled buffer. */
export const COPY_OUT_CHUNK_BYTES = 64 * 1024;

/** The time from accept to the end of the startup packet. A peer that trickles bytes is cut off. */
export const STARTUP_TIMEOUT_MS = 10_000;

/**
 * The maximum number of a server's connections. It is lower if the process may open only few files,
 * see {@link connectionLimits}.
 */
export const MAX_CONNECTIONS = 1000;

/**
 * This many connections are reserved for clients on the same machine, so that an operator gets in
 * when clients from the network have filled the server.
 */
export const RESERVED_CONNECTIONS = 16;

/** How many connections above the maximum still get an answer with the reason for the refusal. */
export const REFUSED_CONNECTIONS_MAX = 64;

/** A connection that is idle for this long is ended. A stream counts as a running command. */
export const IDLE_TIMEOUT_MS = 10 * 60_000;

/**
 * When the server is full, the connection that has been idle longest gives way, if it has been idle
 * for at least this long.
 */
export const IDLE_GIVES_WAY_MS = 1_000;

/** How often a server looks for idle connections. */
export const IDLE_CHECK_MS = 30_000;

/**
 * How much of its peer's data one connection may hold: the arriving message, read-ahead, prepared
 * statements and output.
 */
export const CONNECTION_MAX_BYTES = 24 * 1024 * 1024;

/**
 * How much all connections of a server may hold together. Beyond this, new connections are refused,
 * and a connection that wants to hold more is ended unless it holds little.
 */
export const SERVER_HELD_MAX_BYTES = 256 * 1024 * 1024;

/** A connection that holds no more than this is not ended because of what others hold. */
export const CONNECTION_FREE_BYTES = 64 * 1024;

/**
 * How long a closing server waits for running queries and unwritten output before it cuts
 * connections.
 */
export const SHUTDOWN_GRACE_MS = 5_000;

/**
 * How long the peer may take after a connection's last message to read it and to close its side.
 */
export const LINGER_MS = 1_000;

/**
 * After this much silence, the kernel probes a peer. This finds peers that vanished without a FIN.
 */
export const TCP_KEEPALIVE_MS = 30_000;

export const CONNECT_TIMEOUT_MS = 10_000;

/** A server with fewer connections than this is useless. */
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
 * Returns how many connections a process with this limit on open files may have. Each connection
 * takes a descriptor.
 */
export function connectionLimits(
  openFiles: number,
): { readonly connections: number; readonly refused: number } {
  const share = Math.floor(openFiles * CONNECTIONS_SHARE);
  const refused = Math.min(REFUSED_CONNECTIONS_MAX, Math.floor(share / 16));
  return { connections: Math.max(CONNECTIONS_MIN, Math.min(MAX_CONNECTIONS, share - refused)), refused };
}
