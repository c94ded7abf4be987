/**
 * What stands before the session of a connection: encryption, and the client's proof of who it is.
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
 * The server's side of an authentication: Authentication messages out, the client's answers in.
 * Request codes are libpq/pqcomm.h's AUTH_REQ_*.
 */
export interface AuthenticationDialogue {
  readonly startup: StartupRequest;
  /** `address:port` of the client. */
  readonly remoteAddress: string;
  /** Whether the connection is encrypted by now. */
  readonly encrypted: boolean;

  /**
   * Sends a request and waits for the client's answer: the body of a PasswordMessage,
   * SASLInitialResponse or SASLResponse, valid for good.
   *
   * @throws {ZenithError} when the client answers with anything else, too late, or leaves
   */
  ask(request: number, body?: Uint8Array): Promise<Uint8Array>;

  /** Sends a request that takes no answer, such as SASLFinal. */
  tell(request: number, body?: Uint8Array): void;
}

/** How a server negotiates with every client before it opens the session. */
export interface Negotiation {
  /**
   * Encrypts the connection of a client that has sent SSLRequest, after it has been told yes.
   * Without this method the client is told no, and may go on unencrypted.
   *
   * @returns the socket that the connection continues on; it takes over `socket`
   */
  encrypt?(socket: Socket): Socket;

  /**
   * Lets the client prove who it is, after its startup packet and before the server's handler sees
   * the session. Returns for a client that may come in.
   *
   * @throws to refuse the client, which gets the error as FATAL
   */
  authenticate(dialogue: AuthenticationDialogue): void | Promise<void>;
}

/** No encryption, and every client is who it says it is. */
export const TRUST: Negotiation = { authenticate() {} };
