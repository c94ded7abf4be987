/** Lets a client prove who it is: by SCRAM, or by its password where TLS protects that. */
import { createHash, timingSafeEqual } from "node:crypto";
import { type ScramKeys, scramKeys } from "../../pgwire/client_auth.ts";
import * as code from "../../pgwire/message_types.ts";
import { SMALL_MESSAGE_MAX_BYTES } from "../../pgwire/limits.ts";
import { ProtocolError } from "../../pgwire/sqlstate.ts";
import { authentication, saslMechanisms } from "./messages.ts";
import { provePassword, SCRAM, SCRAM_PLUS, type Verifier, wrongPassword } from "./scram_server.ts";
import type { Wire } from "./wire.ts";

/**
 * @param binding the channel binding of the connection, if it has one
 * @throws `28P01` when the client does not know the password
 */
export async function loginByScram(
  wire: Wire,
  verifier: Verifier,
  user: string,
  binding: Uint8Array | undefined,
): Promise<ScramKeys> {
  wire.write(saslMechanisms(binding === undefined ? [SCRAM] : [SCRAM_PLUS, SCRAM]));
  const first = await answer(wire);
  const end = first.indexOf(0);
  if (end < 0 || first.length < end + 5) throw new ProtocolError("malformed SASL message");
  const size = first.readInt32BE(end + 1);
  if (size !== first.length - end - 5) throw new ProtocolError("malformed SASL message");
  const { keys, serverFinal } = await provePassword(
    {
      mechanism: first.toString("utf8", 0, end),
      clientFirst: first.toString("utf8", end + 5),
      challenge: async (serverFirst) => {
        wire.write(authentication(code.AUTH_SASL_CONTINUE, serverFirst));
        return (await answer(wire)).toString("utf8");
      },
    },
    verifier,
    user,
    binding,
  );
  wire.write(authentication(code.AUTH_SASL_FINAL, serverFinal));
  return keys;
}

/**
 * Asks for the password itself: what the serverless driver sends over a WebSocket before it is
 * asked. @throws `28P01`
 */
export async function loginByPassword(wire: Wire, verifier: Verifier, user: string): Promise<ScramKeys> {
  wire.write(authentication(code.AUTH_CLEARTEXT));
  const body = await answer(wire);
  const end = body.indexOf(0);
  return await keysOf(body.toString("utf8", 0, end < 0 ? body.length : end), verifier, user);
}

/** The keys of a password. @throws `28P01` unless the verifier is its own */
export async function keysOf(password: string, verifier: Verifier, user: string): Promise<ScramKeys> {
  const keys = await scramKeys(password, Buffer.from(verifier.salt, "base64"), verifier.iterations);
  const storedKey = createHash("sha256").update(keys.clientKey).digest();
  if (!timingSafeEqual(storedKey, verifier.storedKey)) throw wrongPassword(user);
  return { clientKey: keys.clientKey, serverKey: verifier.serverKey };
}

async function answer(wire: Wire): Promise<Buffer> {
  const { type, body } = await wire.message(SMALL_MESSAGE_MAX_BYTES);
  if (type !== code.PASSWORD_MESSAGE) {
    throw new ProtocolError(`expected a password, got "${String.fromCharCode(type)}"`);
  }
  return body;
}
