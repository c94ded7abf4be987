/**
 * Defines what precedes a connection's session: encryption, and the client's proof of its identity.
 */
import type { Socket } from "node:net";

/** What a client's startup packet says. */
export interface StartupRequest {
  /** `user`, `database`, `application_name`, `replication`, … as the client sent them. */
  readonly params: ReadonlyMap<string, string>;
  /** What the `options` parameter sets. */
  readonly options: ReadonlyMap<string, string>;
}

/**
 * The server's side of an authentication: it sends Authentication messages and receives the
 * client's answers. Request codes are libpq/pqcomm.h's AUTH_REQ_*.
 */
export interface AuthenticationDialogue {
  readonly startup: StartupRequest;
  /** `address:port` of the client. */
  readonly remoteAddress: string;
  /** Whether the connection is already encrypted. */
  readonly encrypted: boolean;
  /**
   * The SHA-256 of the certificate whose key the client has proved to have, base64url. Nobody has
   * looked who issued it. Undefined when it has shown none.
   */
  readonly certificate: string | undefined;

  /**
   * Sends a request and waits for the client's answer. Returns the body of a PasswordMessage,
   * SASLInitialResponse or SASLResponse; the bytes stay valid.
   *
   * @throws {ZenithError} when the client answers with anything else, answers too late, or leaves
   */
  ask(request: number, body?: Uint8Array): Promise<Uint8Array>;

  /** Sends a request that takes no answer, such as SASLFinal. */
  tell(request: number, body?: Uint8Array): void;
}

/** How a server negotiates with each client before it opens the session. */
export interface Negotiation {
  /**
   * Encrypts the connection of a client that has sent SSLRequest, after the server has answered
   * yes. Without this method the server answers no, and the client may continue unencrypted.
   *
   * @returns the socket on which the connection continues. It takes over `socket`
   */
  encrypt?(socket: Socket): Socket;

  /**
   * Lets the client prove its identity, after its startup packet and before the server's handler
   * sees the session. Returns if the client is accepted.
   *
   * @returns who the client is; {@link Session.identity} keeps it
   * @throws to refuse the client, which gets the error as FATAL
   */
  authenticate(dialogue: AuthenticationDialogue): unknown;
}

/** No encryption. Every client is trusted to be who it says it is. */
export const TRUST: Negotiation = { authenticate() {} };
