/** Bounds on what a peer can make this process hold or wait for. All sizes are bytes, all times milliseconds. */

/** PostgreSQL's MAX_STARTUP_PACKET_LENGTH (libpq/pqcomm.h): nothing before authentication needs more. */
export const STARTUP_PACKET_MAX_BYTES = 10_000;

/** Query text, and the parameters of one Bind. Our commands are short; this leaves room for generated ones. */
export const QUERY_MAX_BYTES = 1024 * 1024;

/** Messages whose body is a name or nothing at all; PostgreSQL's PQ_SMALL_MESSAGE_LIMIT. */
export const SMALL_MESSAGE_MAX_BYTES = 10_000;

/** One CopyData message, in either direction. A walsender sends 128 KiB at a time, a proposer some MiB at most. */
export const COPY_DATA_MAX_BYTES = 16 * 1024 * 1024;

/** One message from a server that is no CopyData: a row, an error. A row is one JSON column for our lists. */
export const SERVER_MESSAGE_MAX_BYTES = 64 * 1024 * 1024;

/** Statements plus portals that one session may keep prepared. */
export const PREPARED_MAX_COUNT = 1000;

/** Bytes that a client may send ahead while its query runs; beyond it the socket is not read. */
export const READ_AHEAD_MAX_BYTES = 1024 * 1024;

/** Output above this is backpressure: `send` returns false, and a server stops taking requests of that connection. */
export const WRITE_HIGH_WATER_BYTES = 1024 * 1024;

/** Output has drained when no more than this is left unwritten. */
export const WRITE_LOW_WATER_BYTES = 256 * 1024;

/** CopyData messages of a COPY OUT carry at most this much, so that they fit a pooled buffer. */
export const COPY_OUT_CHUNK_BYTES = 64 * 1024;

/** From accept to the end of the startup packet. A peer that trickles bytes is cut off. */
export const STARTUP_TIMEOUT_MS = 10_000;

export const MAX_CONNECTIONS = 1000;

/** Connections above the maximum that are still heard out, so that they learn why they are refused. */
export const REFUSED_CONNECTIONS_MAX = 64;

/** How long a closing server waits for running queries and unwritten output before it cuts connections. */
export const SHUTDOWN_GRACE_MS = 5_000;

/** After a connection's last message: how long the peer may take to read it and to close its side. */
export const LINGER_MS = 1_000;

/** Silence after which the kernel probes a peer; finds the ones that vanished without a FIN. */
export const TCP_KEEPALIVE_MS = 30_000;

export const CONNECT_TIMEOUT_MS = 10_000;
