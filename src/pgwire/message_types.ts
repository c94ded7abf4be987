/**
 * Defines the message type bytes of protocol 3.0, named as in "Message Formats" in the PostgreSQL
 * manual.
 */
import {
  COPY_DATA_MAX_BYTES,
  QUERY_MAX_BYTES,
  SERVER_MESSAGE_MAX_BYTES,
  SMALL_MESSAGE_MAX_BYTES,
} from "./limits.ts";

function code(letter: string): number {
  return letter.charCodeAt(0);
}

export const COPY_DATA = code("d");
export const COPY_DONE = code("c");

/** Sent by clients. */
export const BIND = code("B");
export const CLOSE = code("C");
export const COPY_FAIL = code("f");
export const DESCRIBE = code("D");
export const EXECUTE = code("E");
export const FLUSH = code("H");
export const FUNCTION_CALL = code("F");
export const PARSE = code("P");
/**
 * PasswordMessage, SASLInitialResponse and SASLResponse share a letter. The server's request tells
 * them apart.
 */
export const PASSWORD_MESSAGE = code("p");
export const QUERY = code("Q");
export const SYNC = code("S");
export const TERMINATE = code("X");

/** Request codes of the Authentication message (libpq/pqcomm.h, AUTH_REQ_*). */
export const AUTH_OK = 0;
/** Asks for a password as it is. */
export const AUTH_CLEARTEXT = 3;
export const AUTH_MD5 = 5;
export const AUTH_SASL = 10;
export const AUTH_SASL_CONTINUE = 11;
export const AUTH_SASL_FINAL = 12;

/** Sent by servers. */
export const AUTHENTICATION = code("R");
export const BACKEND_KEY_DATA = code("K");
export const BIND_COMPLETE = code("2");
export const CLOSE_COMPLETE = code("3");
export const COMMAND_COMPLETE = code("C");
export const COPY_BOTH_RESPONSE = code("W");
export const COPY_IN_RESPONSE = code("G");
export const COPY_OUT_RESPONSE = code("H");
export const DATA_ROW = code("D");
export const EMPTY_QUERY_RESPONSE = code("I");
export const ERROR_RESPONSE = code("E");
export const NEGOTIATE_PROTOCOL_VERSION = code("v");
export const NO_DATA = code("n");
export const NOTICE_RESPONSE = code("N");
export const NOTIFICATION_RESPONSE = code("A");
export const PARAMETER_DESCRIPTION = code("t");
export const PARAMETER_STATUS = code("S");
export const PARSE_COMPLETE = code("1");
export const PORTAL_SUSPENDED = code("s");
export const READY_FOR_QUERY = code("Z");
export const ROW_DESCRIPTION = code("T");

/** Transaction status in ReadyForQuery: idle. Zenith's commands have no transactions. */
export const TRANSACTION_IDLE = code("I");

/** The only supported protocol version: major 3, minor 0. */
export const PROTOCOL_VERSION_3_0 = 3 << 16;

/** Codes in place of a version number (libpq/pqcomm.h): major 1234. */
export const CANCEL_REQUEST_CODE = (1234 << 16) | 5678;
export const SSL_REQUEST_CODE = (1234 << 16) | 5679;
export const GSSENC_REQUEST_CODE = (1234 << 16) | 5680;

/**
 * The largest body of each message type, indexed by the type byte; -1 for types that the peer never
 * sends.
 */
export type FrameLimits = Int32Array;

function frameLimits(entries: readonly (readonly [type: number, bytes: number])[]): FrameLimits {
  const limits = new Int32Array(256).fill(-1);
  for (const [type, bytes] of entries) limits[type] = bytes;
  return limits;
}

/** What a server accepts from a client. */
export const FRONTEND_LIMITS: FrameLimits = frameLimits([
  [COPY_DATA, COPY_DATA_MAX_BYTES],
  [COPY_DONE, SMALL_MESSAGE_MAX_BYTES],
  [COPY_FAIL, SMALL_MESSAGE_MAX_BYTES],
  [BIND, QUERY_MAX_BYTES],
  [CLOSE, SMALL_MESSAGE_MAX_BYTES],
  [DESCRIBE, SMALL_MESSAGE_MAX_BYTES],
  [EXECUTE, SMALL_MESSAGE_MAX_BYTES],
  [FLUSH, SMALL_MESSAGE_MAX_BYTES],
  [FUNCTION_CALL, SMALL_MESSAGE_MAX_BYTES],
  [PARSE, QUERY_MAX_BYTES],
  [PASSWORD_MESSAGE, SMALL_MESSAGE_MAX_BYTES],
  [QUERY, QUERY_MAX_BYTES],
  [SYNC, SMALL_MESSAGE_MAX_BYTES],
  [TERMINATE, SMALL_MESSAGE_MAX_BYTES],
]);

/** What a server accepts from a client during authentication. */
export const AUTHENTICATION_LIMITS: FrameLimits = frameLimits([[PASSWORD_MESSAGE, SMALL_MESSAGE_MAX_BYTES]]);

/** What a client accepts from a server. */
export const BACKEND_LIMITS: FrameLimits = frameLimits([
  [COPY_DATA, COPY_DATA_MAX_BYTES],
  [COPY_DONE, SMALL_MESSAGE_MAX_BYTES],
  [AUTHENTICATION, SMALL_MESSAGE_MAX_BYTES],
  [BACKEND_KEY_DATA, SMALL_MESSAGE_MAX_BYTES],
  [BIND_COMPLETE, SMALL_MESSAGE_MAX_BYTES],
  [CLOSE_COMPLETE, SMALL_MESSAGE_MAX_BYTES],
  [COMMAND_COMPLETE, SMALL_MESSAGE_MAX_BYTES],
  [COPY_BOTH_RESPONSE, SMALL_MESSAGE_MAX_BYTES],
  [COPY_IN_RESPONSE, SMALL_MESSAGE_MAX_BYTES],
  [COPY_OUT_RESPONSE, SMALL_MESSAGE_MAX_BYTES],
  [DATA_ROW, SERVER_MESSAGE_MAX_BYTES],
  [EMPTY_QUERY_RESPONSE, SMALL_MESSAGE_MAX_BYTES],
  [ERROR_RESPONSE, SERVER_MESSAGE_MAX_BYTES],
  [NEGOTIATE_PROTOCOL_VERSION, SMALL_MESSAGE_MAX_BYTES],
  [NO_DATA, SMALL_MESSAGE_MAX_BYTES],
  [NOTICE_RESPONSE, SERVER_MESSAGE_MAX_BYTES],
  [NOTIFICATION_RESPONSE, SMALL_MESSAGE_MAX_BYTES],
  [PARAMETER_DESCRIPTION, SERVER_MESSAGE_MAX_BYTES],
  [PARAMETER_STATUS, SMALL_MESSAGE_MAX_BYTES],
  [PARSE_COMPLETE, SMALL_MESSAGE_MAX_BYTES],
  [PORTAL_SUSPENDED, SMALL_MESSAGE_MAX_BYTES],
  [READY_FOR_QUERY, SMALL_MESSAGE_MAX_BYTES],
  [ROW_DESCRIPTION, SERVER_MESSAGE_MAX_BYTES],
]);
