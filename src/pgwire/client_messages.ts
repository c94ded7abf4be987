/**
 * Writes the messages that a client sends before its first query, and reads the server's errors.
 */
import type { ByteCursor } from "./byte_cursor.ts";
import { md5Password, SCRAM_SHA_256, ScramClient } from "./client_auth.ts";
import type { ConnInfo } from "./conninfo.ts";
import type { FrameWriter } from "./frame_writer.ts";
import {
  AUTH_CLEARTEXT,
  AUTH_MD5,
  AUTH_OK,
  AUTH_SASL,
  AUTH_SASL_CONTINUE,
  AUTH_SASL_FINAL,
  PASSWORD_MESSAGE,
  PROTOCOL_VERSION_3_0,
} from "./message_types.ts";
import { PgError, ProtocolError, SQLSTATE_INTERNAL_ERROR, SQLSTATE_INVALID_PASSWORD } from "./sqlstate.ts";

/** A column as a RowDescription names it. */
export interface ServerColumn {
  name: string;
  typeOid: number;
}

const MD5_SALT_BYTES = 4;

export function writeStartupPacket(out: FrameWriter, info: ConnInfo): void {
  const params: [string, string | undefined][] = [
    ["user", info.user],
    ["database", info.database],
    ["options", info.options],
    ["application_name", info.applicationName],
    ["replication", info.replication ? "true" : undefined],
    ["client_encoding", "UTF8"],
  ];
  const start = out.pos;
  out.int32(0);
  out.int32(PROTOCOL_VERSION_3_0);
  for (const [name, value] of params) {
    if (value === undefined) continue;
    out.cstring(name);
    out.cstring(value);
  }
  out.uint8(0);
  const end = out.pos;
  out.pos = start;
  out.int32(end - start);
  out.pos = end;
}

/**
 * Answers one Authentication message.
 *
 * @returns the SCRAM exchange, to be passed with the next message
 * @throws {ProtocolError} when the server asks for credentials that the client lacks, or fails to
 *   prove its own identity
 */
export async function authenticate(
  out: FrameWriter,
  cursor: ByteCursor,
  info: ConnInfo,
  scram: ScramClient | undefined,
): Promise<ScramClient | undefined> {
  const request = cursor.int32();
  switch (request) {
    case AUTH_OK:
      return scram;
    case AUTH_CLEARTEXT:
      writePassword(out, password(info));
      return undefined;
    case AUTH_MD5:
      writePassword(out, md5Password(info.user, password(info), cursor.bytes(MD5_SALT_BYTES)));
      return undefined;
    case AUTH_SASL: {
      const mechanisms: string[] = [];
      for (let name = cursor.cstring(); name !== ""; name = cursor.cstring()) mechanisms.push(name);
      if (!mechanisms.includes(SCRAM_SHA_256)) {
        throw new ProtocolError(`the server wants ${mechanisms.join(" or ")}, we speak ${SCRAM_SHA_256}`);
      }
      const exchange = new ScramClient(password(info));
      const first = exchange.firstMessage();
      out.begin(PASSWORD_MESSAGE);
      out.cstring(SCRAM_SHA_256);
      out.int32(first.length);
      out.text(first);
      out.finish();
      return exchange;
    }
    case AUTH_SASL_CONTINUE: {
      if (scram === undefined) throw new ProtocolError("SASL challenge without an exchange");
      const final = await scram.finalMessage(cursor.text(cursor.remaining));
      out.begin(PASSWORD_MESSAGE);
      out.text(final);
      out.finish();
      return scram;
    }
    case AUTH_SASL_FINAL:
      if (scram === undefined) throw new ProtocolError("SASL outcome without an exchange");
      scram.verify(cursor.text(cursor.remaining));
      return scram;
    default:
      throw new ProtocolError(`the server asks for authentication method ${request}, which is not supported`);
  }
}

/** Reads the fields of an ErrorResponse or NoticeResponse. */
export function parseErrorResponse(cursor: ByteCursor): PgError {
  const fields = new Map<string, string>();
  for (let code = cursor.uint8(); code !== 0; code = cursor.uint8()) {
    fields.set(String.fromCharCode(code), cursor.cstring());
  }
  const hint = fields.get("H");
  return new PgError(
    fields.get("C") ?? SQLSTATE_INTERNAL_ERROR,
    fields.get("M") ?? "error without a message",
    {
      severity: fields.get("V") ?? fields.get("S") ?? "ERROR",
      ...(hint === undefined ? {} : { hint }),
    },
  );
}

function password(info: ConnInfo): string {
  if (info.password === undefined) {
    throw new PgError(
      SQLSTATE_INVALID_PASSWORD,
      `${info.host}:${info.port} asks for a password, none was given`,
    );
  }
  return info.password;
}

function writePassword(out: FrameWriter, text: string): void {
  out.begin(PASSWORD_MESSAGE);
  out.cstring(text);
  out.finish();
}
