/** How a client arrives: encryption, then its startup packet or its wish to cancel a command. */
import type { Duplex } from "node:stream";
import { parseRawStartup } from "../../pgwire/startup.ts";
import { ProtocolError } from "../../pgwire/sqlstate.ts";
import { ALPN, type Encrypted } from "../../pgwire/tls.ts";
import { STARTUP_PACKET_MAX_BYTES } from "../../pgwire/limits.ts";
import { protocol30 } from "./messages.ts";
import type { Wire } from "./wire.ts";

/** A client that wants a session. */
export interface Arrival {
  readonly kind: "session";
  readonly params: ReadonlyMap<string, string>;
  /** The name that the client has called us by, when it has said so by TLS. */
  readonly serverName: string | undefined;
  readonly isEncrypted: boolean;
  /** The certificate that it was shown, in PEM; undefined when somebody else has shown it. */
  readonly certificate: string | undefined;
}

/** A client that wants to end the command of another. */
export interface Cancellation {
  readonly kind: "cancel";
  readonly key: Buffer;
}

/** Takes over a connection. */
export type Encrypt = (plain: Duplex) => Encrypted;

/** The first byte of a TLS handshake, with which sslnegotiation=direct begins. */
const TLS_HANDSHAKE = 0x16;

const YES = Buffer.from("S");
const NO = Buffer.from("N");

/**
 * @param encrypt undefined where connections are encrypted already, or can't be
 * @throws {ProtocolError} when what comes is no PostgreSQL
 */
export async function receive(wire: Wire, encrypt: Encrypt | undefined): Promise<Arrival | Cancellation> {
  let tls: Encrypted | undefined;
  if (encrypt !== undefined && await wire.peek() === TLS_HANDSHAKE) {
    tls = startTls(wire, encrypt);
    await wire.peek();
    // Otherwise a request for a web page could be taken for one of ours (CVE-2021-23222's kin).
    if (tls.socket.alpnProtocol !== ALPN) {
      throw new ProtocolError("direct TLS needs the protocol postgresql: ALPN did not name it");
    }
  }
  for (;;) {
    const head = await wire.read(4);
    const size = head.readInt32BE(0) - 4;
    if (size < 4 || size > STARTUP_PACKET_MAX_BYTES) throw new ProtocolError("invalid startup packet");
    const packet = await wire.read(size);
    const parsed = parseRawStartup(packet, 0, packet.length);
    switch (parsed.kind) {
      case "gssenc":
        wire.write(NO);
        break;
      case "ssl":
        if (encrypt === undefined || tls !== undefined) {
          wire.write(NO);
          break;
        }
        // Somebody in between may have sent it (CVE-2021-23214).
        if (wire.bufferedBytes > 0) throw new ProtocolError("unencrypted data after SSLRequest");
        wire.write(YES);
        tls = startTls(wire, encrypt);
        break;
      case "cancel":
        return { kind: "cancel", key: packet.subarray(4) };
      case "startup": {
        const { params, negotiate } = parsed;
        if (negotiate !== undefined) wire.write(protocol30(negotiate));
        return {
          kind: "session",
          params,
          serverName: tls === undefined ? undefined : serverNameOf(tls),
          isEncrypted: tls !== undefined,
          certificate: tls?.cert,
        };
      }
    }
  }
}

/** What has arrived already is the beginning of the handshake. */
function startTls(wire: Wire, encrypt: Encrypt): Encrypted {
  const plain = wire.stream;
  const early = wire.release();
  if (early.length > 0) plain.unshift(early);
  const tls = encrypt(plain);
  wire.change(tls.socket);
  return tls;
}

function serverNameOf({ socket }: Encrypted): string | undefined {
  // The types leave it out for a server's end.
  const { servername } = socket as { servername?: unknown };
  return typeof servername === "string" && servername !== "" ? servername.toLowerCase() : undefined;
}
