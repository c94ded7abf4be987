/**
 * Writes the messages by which the proxy speaks for itself, and reads those it has to understand.
 */
import * as code from "../../pgwire/message_types.ts";
import { reportOf } from "../../pgwire/sqlstate.ts";

/** A message with its type and its length. */
export function message(type: number, ...parts: readonly (string | Uint8Array)[]): Buffer {
  const body = Buffer.concat(parts.map((part) => typeof part === "string" ? Buffer.from(part) : part));
  const head = Buffer.alloc(5);
  head[0] = type;
  head.writeInt32BE(body.length + 4, 1);
  return Buffer.concat([head, body]);
}

export function int32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32BE(value);
  return bytes;
}

export function int16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeInt16BE(value);
  return bytes;
}

export function authentication(request: number, body: string | Uint8Array = ""): Buffer {
  return message(code.AUTHENTICATION, int32(request), body);
}

/** The SASL mechanisms to choose from. */
export function saslMechanisms(names: readonly string[]): Buffer {
  return authentication(code.AUTH_SASL, `${names.map((name) => `${name}\0`).join("")}\0`);
}

/** The error that ends a connection. */
export function fatal(error: unknown): Buffer {
  const { sqlstate, message: text, hint } = reportOf(error);
  const fields = [["S", "FATAL"], ["V", "FATAL"], ["C", sqlstate], ["M", text]];
  if (hint !== undefined) fields.push(["H", hint]);
  return message(code.ERROR_RESPONSE, `${fields.map(([key, value]) => `${key}${value}\0`).join("")}\0`);
}

/** What a server that knows only protocol 3.0 says to a client that has asked for more. */
export function protocol30(refused: readonly string[]): Buffer {
  return message(
    code.NEGOTIATE_PROTOCOL_VERSION,
    int32(code.PROTOCOL_VERSION_3_0),
    int32(refused.length),
    refused.map((name) => `${name}\0`).join(""),
  );
}

/** A startup packet of protocol 3.0. */
export function startup(params: ReadonlyMap<string, string>): Buffer {
  const words = [...params].map(([name, value]) => `${name}\0${value}\0`).join("");
  const body = Buffer.concat([int32(code.PROTOCOL_VERSION_3_0), Buffer.from(`${words}\0`)]);
  return Buffer.concat([int32(body.length + 4), body]);
}

/** The fields of an ErrorResponse, by their letters. */
export function errorFields(body: Uint8Array): Map<string, string> {
  const fields = new Map<string, string>();
  for (const part of Buffer.from(body).toString("utf8").split("\0")) {
    if (part !== "") fields.set(part[0]!, part.slice(1));
  }
  return fields;
}
