/** TLS on the PostgreSQL wire, both sides. It begins after SSLRequest, with ALPN `postgresql`. */
import { createPrivateKey, X509Certificate } from "node:crypto";
import { statSync } from "node:fs";
import { isIP, type Socket } from "node:net";
import { connect as connectTls, createSecureContext, TLSSocket } from "node:tls";
import { certificateHash } from "../common/certificate_hash.ts";
import { errorMessage, systemErrorCode, ZenithError } from "../common/errors.ts";
import { readText } from "../common/read_text.ts";
import { SSL_REQUEST_CODE } from "./message_types.ts";
import { ProtocolError } from "./sqlstate.ts";

/** src/include/libpq/pqcomm.h, PG_ALPN_PROTOCOL. */
export const ALPN = "postgresql";

const MIN_VERSION = "TLSv1.2";

/**
 * What TLS 1.2 may encrypt with: AEADs, with a key that nobody can find out later (RFC 9325, 4.2).
 * Those of TLS 1.3 are all like that.
 */
const CIPHERS = [
  "ECDHE-ECDSA-AES256-GCM-SHA384",
  "ECDHE-RSA-AES256-GCM-SHA384",
  "ECDHE-ECDSA-CHACHA20-POLY1305",
  "ECDHE-RSA-CHACHA20-POLY1305",
  "ECDHE-ECDSA-AES128-GCM-SHA256",
  "ECDHE-RSA-AES128-GCM-SHA256",
].join(":");

/** What a server agrees to, on every port. */
const POLICY = { minVersion: MIN_VERSION, ciphers: CIPHERS } as const;

const YES = "S".charCodeAt(0);
const NO = "N".charCodeAt(0);

/** A server's certificate and its key. */
export interface TlsFiles {
  /** Paths of PEM files. */
  readonly cert: string;
  readonly key: string;
  /** Called when what has changed can't be used. What was read before stays in use. */
  onError(error: unknown): void;
}

/** A connection that TLS has taken over. */
export interface Encrypted {
  readonly socket: TLSSocket;
  /** The certificate that it shows, in PEM. */
  readonly cert: string;
}

/** Encrypts a server's connections, with files that are read again when they change. */
export class ServerTls {
  readonly #cert: string;
  readonly #key: string;
  readonly #onError: (error: unknown) => void;
  #pair!: { cert: string; key: string };
  #stamp = "";

  /**
   * @throws {ZenithError} `io` when they can't be read, `invalid_argument` when they are no pair
   */
  constructor({ cert, key, onError }: TlsFiles) {
    this.#cert = cert;
    this.#key = key;
    this.#onError = onError;
    this.#read(this.#look());
  }

  /** Continues a client's connection as TLS. @returns the socket that takes over `plain` */
  encrypt(plain: Socket): TLSSocket {
    return this.accept(plain).socket;
  }

  /**
   * Continues a client's connection as TLS.
   *
   * @param protocol what the client may have named by ALPN
   */
  accept(plain: Socket, protocol: typeof ALPN | "http/1.1" = ALPN): Encrypted {
    this.#refresh();
    const { cert, key } = this.#pair;
    const socket = new TLSSocket(plain, {
      isServer: true,
      cert,
      key,
      ALPNProtocols: [protocol],
      ...POLICY,
      // A client may have one. Whether it counts, a token says, and not who issued it. Browsers
      // would ask their users.
      requestCert: protocol === ALPN,
      rejectUnauthorized: false,
    });
    return { socket, cert };
  }

  #refresh(): void {
    const stamp = this.#look();
    if (stamp === this.#stamp) return;
    try {
      this.#read(stamp);
    } catch (error) {
      this.#stamp = stamp;
      this.#onError(error);
    }
  }

  #read(stamp: string): void {
    this.#pair = readPair(this.#cert, this.#key);
    this.#stamp = stamp;
  }

  #look(): string {
    return [this.#cert, this.#key].map((path) => {
      try {
        const { mtimeMs, ino, size } = statSync(path);
        return `${mtimeMs} ${ino} ${size}`;
      } catch (error) {
        return systemErrorCode(error) ?? "unreadable";
      }
    }).join();
  }
}

/**
 * Returns the SHA-256, base64url, of the certificate that a client has shown in its handshake,
 * which proves that it has the key. Undefined when it has shown none.
 */
export function clientCertificate(socket: Socket): string | undefined {
  // Deno does not say whether it has checked that proof.
  if (!(socket instanceof TLSSocket) || "Deno" in globalThis) return undefined;
  const certificate = socket.getPeerX509Certificate();
  return certificate === undefined ? undefined : certificateHash(certificate);
}

/**
 * Reads a certificate and its key.
 *
 * @throws {ZenithError} `io` when they can't be read, `invalid_argument` when they are no pair
 */
export function readPair(certFile: string, keyFile: string): { cert: string; key: string } {
  const cert = readText(certFile);
  const key = readText(keyFile);
  if (isPair(cert, key)) return { cert, key };
  throw new ZenithError(
    "invalid_argument",
    `${certFile} and ${keyFile} are no certificate with its key, in PEM`,
  );
}

function isPair(cert: string, key: string): boolean {
  try {
    // All of the chain has to be usable, not its first certificate alone.
    createSecureContext({ cert, key, ...POLICY });
    return new X509Certificate(cert).checkPrivateKey(createPrivateKey(key));
  } catch {
    return false;
  }
}

/** How a client tells a server from others that pretend to be it. */
export interface ClientTls {
  /** The certificates, in PEM, of the authorities that it trusts. Undefined for the system's. */
  readonly ca?: string | undefined;
  /** The server's name or address. */
  readonly host: string;
  /**
   * What is verified, `name` when left out: that an authority vouches for the server under that
   * name; that one vouches for it; or nothing.
   */
  readonly verify?: "name" | "authority" | "nothing";
  /** Whether the connection goes on without TLS when the server has none. */
  readonly isOptional?: boolean;
}

/**
 * Asks for TLS on a new connection, and verifies the server.
 *
 * @param plain a connected socket on which nothing has been sent
 * @returns the encrypted socket; `plain` when TLS is optional and the server has none
 * @throws {ProtocolError} when the server has no TLS; {@link ZenithError} `forbidden` when it is
 *   not the one that it should be
 */
export async function requestTls(plain: Socket, tls: ClientTls): Promise<Socket> {
  const { ca, host, verify = "name", isOptional = false } = tls;
  const answer = new Promise<Uint8Array>((resolve, reject) => {
    plain.once("data", resolve);
    plain.once("error", reject);
    plain.once("end", () => reject(new ProtocolError(`${host} hung up when asked for TLS`)));
  });
  const request = new Uint8Array(8);
  const view = new DataView(request.buffer);
  view.setInt32(0, request.length);
  view.setInt32(4, SSL_REQUEST_CODE);
  plain.write(request);
  const bytes = await answer;
  // More than the byte was sent by somebody in between (CVE-2021-23222).
  const isOnlyAnswer = bytes.length === 1;
  if (!isOnlyAnswer || bytes[0] !== YES && !(isOptional && bytes[0] === NO)) {
    throw new ProtocolError(`${host} has no TLS, without which nothing is sent there`);
  }
  plain.removeAllListeners("data").removeAllListeners("end").removeAllListeners("error");
  if (bytes[0] === NO) return plain;
  return await new Promise((resolve, reject) => {
    const socket = connectTls({
      socket: plain,
      ...(ca === undefined ? {} : { ca }),
      host,
      rejectUnauthorized: verify !== "nothing",
      ...(verify === "name" ? {} : { checkServerIdentity: () => undefined }),
      ...(isIP(host) === 0 ? { servername: host } : {}),
      ALPNProtocols: [ALPN],
      minVersion: MIN_VERSION,
    });
    const failed = (error: Error): void => {
      reject(
        new ZenithError("forbidden", `${host} does not prove to be that server: ${errorMessage(error)}`, {
          cause: error,
        }),
      );
    };
    socket.once("error", failed);
    socket.once("secureConnect", () => {
      socket.off("error", failed);
      resolve(socket);
    });
  });
}
