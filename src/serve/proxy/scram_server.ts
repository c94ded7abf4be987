/**
 * The server's side of SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, 7677, 5929;
 * libpq/auth-scram.c).
 * It knows a verifier, never the password. Who proves to know that, gives the key by which one logs
 * in to Postgres in the same way.
 */
import { createHash, createHmac, randomBytes, timingSafeEqual } from "node:crypto";
import type { ScramKeys } from "../../pgwire/client_auth.ts";
import { PgError, ProtocolError, SQLSTATE_INVALID_PASSWORD } from "../../pgwire/sqlstate.ts";

export const SCRAM = "SCRAM-SHA-256";
export const SCRAM_PLUS = "SCRAM-SHA-256-PLUS";

const NONCE_BYTES = 18;
const KEY_BYTES = 32;

/** What `pg_authid` has of a password. */
export interface Verifier {
  readonly iterations: number;
  /** In base64, as it is sent. */
  readonly salt: string;
  readonly storedKey: Uint8Array;
  readonly serverKey: Uint8Array;
}

/** Reads `SCRAM-SHA-256$4096:<salt>$<StoredKey>:<ServerKey>`; undefined for anything else. */
export function parseVerifier(text: string): Verifier | undefined {
  const match =
    /^SCRAM-SHA-256\$(\d{1,9}):([A-Za-z0-9+/=]{4,1000})\$([A-Za-z0-9+/]{43}=):([A-Za-z0-9+/]{43}=)$/
      .exec(text);
  if (match === null) return undefined;
  return {
    iterations: Number(match[1]),
    salt: match[2]!,
    storedKey: Buffer.from(match[3]!, "base64"),
    serverKey: Buffer.from(match[4]!, "base64"),
  };
}

/** By which the verifiers of roles that don't exist are made up: the same each time. */
const MOCK_KEY = randomBytes(KEY_BYTES);

/**
 * A verifier that no password fits, for a role that there isn't. An attacker can't tell it from one
 * that exists.
 */
export function mockVerifier(role: string, endpoint: string): Verifier {
  const make = (what: string): Buffer =>
    createHmac("sha256", MOCK_KEY).update(`${what}\0${endpoint}\0${role}`).digest();
  return {
    iterations: 4096,
    salt: make("salt").subarray(0, 16).toString("base64"),
    storedKey: make("stored"),
    serverKey: make("server"),
  };
}

/** A dialogue with one client. */
export interface ScramDialogue {
  /** The mechanism that it has chosen, and its first message. */
  readonly mechanism: string;
  readonly clientFirst: string;
  /** Sends the challenge. @returns the client's answer */
  challenge(serverFirst: string): Promise<string>;
}

export interface Proved {
  readonly keys: ScramKeys;
  /** What proves the server to the client. */
  readonly serverFinal: string;
}

/**
 * Lets a client prove that it knows the password.
 *
 * @param binding the `tls-server-end-point` of the connection; undefined when it has none
 * @throws {PgError} `28P01`; {@link ProtocolError} for what is no SCRAM
 */
export async function provePassword(
  dialogue: ScramDialogue,
  verifier: Verifier,
  user: string,
  binding: Uint8Array | undefined,
): Promise<Proved> {
  const match = /^((?:p=([A-Za-z0-9.-]+)|n|y),(?:a=[^,]*)?,)(n=[^,]*,r=([\x21-\x2b\x2d-\x7e]+))$/
    .exec(dialogue.clientFirst);
  if (match === null) throw new ProtocolError("malformed SCRAM message");
  const [, header, bindingType, bare, clientNonce] = match;
  checkBinding(dialogue.mechanism, header!, bindingType, binding);
  const nonce = `${clientNonce}${randomBytes(NONCE_BYTES).toString("base64")}`;
  const serverFirst = `r=${nonce},s=${verifier.salt},i=${verifier.iterations}`;
  const clientFinal = await dialogue.challenge(serverFirst);
  const final = /^(c=([A-Za-z0-9+/=]+),r=([^,]+)(?:,[^p][^,]*)*),p=([A-Za-z0-9+/]{43}=)$/.exec(clientFinal);
  if (final === null) throw new ProtocolError("malformed SCRAM message");
  const [, withoutProof, channel, sentNonce, proof] = final;
  const expected = Buffer.concat([Buffer.from(header!), bindingType === undefined ? NOTHING : binding!]);
  if (!sameBytes(Buffer.from(channel!, "base64"), expected)) {
    throw new ProtocolError("SCRAM channel binding check failed");
  }
  if (!sameBytes(Buffer.from(sentNonce!), Buffer.from(nonce))) {
    throw new ProtocolError("invalid SCRAM response: the nonce does not match");
  }
  const authMessage = `${bare},${serverFirst},${withoutProof}`;
  const signature = hmac(verifier.storedKey, authMessage);
  const clientKey = Buffer.from(proof!, "base64").map((byte, i) => byte ^ signature[i]!);
  if (!sameBytes(createHash("sha256").update(clientKey).digest(), verifier.storedKey)) {
    throw wrongPassword(user);
  }
  return {
    keys: { clientKey, serverKey: verifier.serverKey },
    serverFinal: `v=${hmac(verifier.serverKey, authMessage).toString("base64")}`,
  };
}

export function wrongPassword(user: string): PgError {
  return new PgError(SQLSTATE_INVALID_PASSWORD, `password authentication failed for user "${user}"`, {
    severity: "FATAL",
  });
}

const NOTHING = new Uint8Array(0);

function checkBinding(
  mechanism: string,
  header: string,
  type: string | undefined,
  binding: Uint8Array | undefined,
): void {
  if (mechanism === SCRAM_PLUS ? binding === undefined : mechanism !== SCRAM) {
    throw new ProtocolError("client selected an invalid SASL authentication mechanism");
  }
  if ((mechanism === SCRAM_PLUS) !== (type !== undefined)) {
    throw new ProtocolError("malformed SCRAM message: the channel binding is not that of the mechanism");
  }
  if (type !== undefined && type !== "tls-server-end-point") {
    throw new ProtocolError("unsupported SCRAM channel-binding type");
  }
  // The client would have bound, had it seen that we can: somebody in between has changed the list.
  if (header.startsWith("y") && binding !== undefined) {
    throw new ProtocolError("SCRAM channel binding negotiation error");
  }
}

function hmac(key: Uint8Array, text: string): Buffer {
  return createHmac("sha256", key).update(text).digest();
}

/** In a time that does not depend on where they differ. */
function sameBytes(one: Uint8Array, other: Uint8Array): boolean {
  return one.length === other.length && timingSafeEqual(one, other);
}
