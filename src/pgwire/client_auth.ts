/** Authenticates a client by MD5 or SCRAM-SHA-256 (RFC 5802, RFC 7677; libpq/fe-auth-scram.c). */
import { createHash, createHmac, pbkdf2, randomBytes, timingSafeEqual } from "node:crypto";
import { promisify } from "node:util";
import { ProtocolError } from "./sqlstate.ts";

export const SCRAM_SHA_256 = "SCRAM-SHA-256";

const KEY_BYTES = 32;
const NONCE_BYTES = 18;
/** Keeps a server from making the client compute forever. PostgreSQL's default is 4096. */
const ITERATIONS_MAX = 1_000_000;
/** "n,,": no channel binding, no other identity. The next constant is its base64 form. */
const GS2_HEADER = "n,,";
const GS2_HEADER_BASE64 = "biws";

const pbkdf2Async = promisify(pbkdf2);

/** Computes the answer to AuthenticationMD5Password. */
export function md5Password(user: string, password: string, salt: Uint8Array): string {
  const inner = createHash("md5").update(password + user, "utf8").digest("hex");
  return "md5" + createHash("md5").update(inner, "utf8").update(salt).digest("hex");
}

/** What a password becomes with a server's salt: enough to log in there (RFC 5802, section 3). */
export interface ScramKeys {
  readonly clientKey: Uint8Array;
  readonly serverKey: Uint8Array;
}

/** @param salt as the server has sent it */
export async function scramKeys(password: string, salt: Uint8Array, iterations: number): Promise<ScramKeys> {
  const salted = await pbkdf2Async(password.normalize("NFKC"), salt, iterations, KEY_BYTES, "sha256");
  return { clientKey: hmac(salted, "Client Key"), serverKey: hmac(salted, "Server Key") };
}

/**
 * One SCRAM-SHA-256 exchange. It normalizes the password with NFKC, which does the same as SASLprep
 * except for a few unusual characters.
 */
export class ScramClient {
  readonly #secret: string | ScramKeys;
  readonly #nonce: string;
  #serverSignature: Uint8Array | undefined;

  /**
   * @param secret the password, or the keys of one who has proved to know it
   * @param nonce printable ASCII without commas; random unless a test needs a known one
   */
  constructor(secret: string | ScramKeys, nonce: string = randomBytes(NONCE_BYTES).toString("base64")) {
    this.#secret = secret;
    this.#nonce = nonce;
  }

  /**
   * Returns the first message. The user name in it is empty: the server takes it from the startup
   * packet.
   */
  firstMessage(): string {
    return GS2_HEADER + this.#firstBare();
  }

  /**
   * @throws {ProtocolError} when the server's message is malformed or belongs to another exchange
   */
  async finalMessage(serverFirst: string): Promise<string> {
    const match = /^r=([^,]+),s=([A-Za-z0-9+/=]+),i=(\d{1,9})$/.exec(serverFirst);
    if (match === null) throw new ProtocolError("malformed SCRAM challenge");
    const [, nonce, salt, iterationsText] = match;
    const iterations = Number(iterationsText);
    if (!nonce.startsWith(this.#nonce) || nonce.length === this.#nonce.length) {
      throw new ProtocolError("SCRAM challenge with a nonce that is not ours");
    }
    if (iterations < 1 || iterations > ITERATIONS_MAX) {
      throw new ProtocolError(
        `SCRAM challenge with ${iterations} iterations, expected 1 to ${ITERATIONS_MAX}`,
      );
    }
    const { clientKey, serverKey } = typeof this.#secret === "string"
      ? await scramKeys(this.#secret, base64ToBytes(salt), iterations)
      : this.#secret;
    const withoutProof = `c=${GS2_HEADER_BASE64},r=${nonce}`;
    const authMessage = `${this.#firstBare()},${serverFirst},${withoutProof}`;
    const storedKey = createHash("sha256").update(clientKey).digest();
    const clientSignature = hmac(storedKey, authMessage);
    const proof = new Uint8Array(KEY_BYTES);
    for (let i = 0; i < KEY_BYTES; i++) proof[i] = clientKey[i] ^ clientSignature[i];
    this.#serverSignature = hmac(serverKey, authMessage);
    return `${withoutProof},p=${bytesToBase64(proof)}`;
  }

  /** @throws {ProtocolError} when the server does not know the password either */
  verify(serverFinal: string): void {
    const match = /^v=([A-Za-z0-9+/=]+)$/.exec(serverFinal);
    const signature = base64ToBytes(match?.[1] ?? "");
    if (
      this.#serverSignature === undefined || signature.length !== KEY_BYTES ||
      !timingSafeEqual(signature, this.#serverSignature)
    ) {
      throw new ProtocolError("the server's SCRAM signature is wrong: it does not know the password");
    }
  }

  #firstBare(): string {
    return `n=,r=${this.#nonce}`;
  }
}

function hmac(key: Uint8Array, text: string): Uint8Array {
  return createHmac("sha256", key).update(text, "utf8").digest();
}

function base64ToBytes(text: string): Uint8Array {
  try {
    return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  } catch {
    throw new ProtocolError("malformed base64 in a SCRAM message");
  }
}

function bytesToBase64(bytes: Uint8Array): string {
  return btoa(String.fromCharCode(...bytes));
}
