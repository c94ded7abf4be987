/**
 * Handles the first phase of a server's connection: answers requests for encryption and
 * cancellation, reads the startup packet, and runs the authentication dialogue.
 */
import type { FrameReader } from "./frame_reader.ts";
import type { FrameWriter } from "./frame_writer.ts";
import { AUTHENTICATION_LIMITS, FRONTEND_LIMITS } from "./message_types.ts";
import type { AuthenticationDialogue, Negotiation, StartupRequest } from "./negotiation.ts";
import { writeAuthenticationRequest, writeNegotiateProtocolVersion } from "./server_messages.ts";
import { ProtocolError } from "./sqlstate.ts";
import { parseStartupPacket } from "./startup.ts";

const YES = "S".charCodeAt(0);
const NO = "N".charCodeAt(0);
const NOTHING = new Uint8Array(0);

/** What the handshake needs from its connection. */
export interface HandshakeHost {
  readonly remoteAddress: string;
  readonly writer: FrameWriter;
  /** As {@link AuthenticationDialogue.certificate}. */
  readonly clientCertificate: string | undefined;
  /** Continues on the socket that `encrypt` makes from the present one. */
  encrypt(encrypt: NonNullable<Negotiation["encrypt"]>): void;
  /** The client asks to cancel another connection's command. It sends nothing else. */
  cancelOther(processId: number, secretKey: number): void;
  /** @throws when the server already has too many connections */
  admit(): void;
  /** The startup packet has arrived. The callee calls {@link Handshake.authenticate}. */
  started(startup: StartupRequest): void;
  /** Resumes reading from the client. */
  resumeReading(): void;
}

interface Answer {
  resolve(body: Uint8Array): void;
  reject(error: unknown): void;
}

export class Handshake {
  readonly #host: HandshakeHost;
  readonly #reader: FrameReader;
  readonly #negotiation: Negotiation;
  #started = false;
  #encrypted = false;
  /** Set while the dialogue waits for the client's answer. */
  #answer: Answer | undefined;
  #endReason: unknown;

  constructor(host: HandshakeHost, reader: FrameReader, negotiation: Negotiation) {
    this.#host = host;
    this.#reader = reader;
    this.#negotiation = negotiation;
    reader.expectStartup = true;
  }

  /** Whether the client's next message can be handled now. */
  get mayRead(): boolean {
    return !this.#started || this.#answer !== undefined;
  }

  /** Handles the reader's current message. @throws {ProtocolError} when it is not allowed here */
  handle(): void {
    if (this.#started) this.#takeAnswer();
    else this.#takeStartup();
  }

  /** @returns who the client has proved to be @throws the reason for refusing it */
  async authenticate(startup: StartupRequest): Promise<unknown> {
    const dialogue: AuthenticationDialogue = {
      startup,
      remoteAddress: this.#host.remoteAddress,
      encrypted: this.#encrypted,
      certificate: this.#host.clientCertificate,
      ask: (request, body = NOTHING) => this.#ask(request, body),
      tell: (request, body = NOTHING) => writeAuthenticationRequest(this.#host.writer, request, body),
    };
    const identity = await this.#negotiation.authenticate(dialogue);
    this.#reader.limits = FRONTEND_LIMITS;
    return identity;
  }

  /** Ends the dialogue when the connection ends: no answer will come. */
  end(reason: unknown): void {
    this.#endReason = reason;
    this.#answer?.reject(reason);
    this.#answer = undefined;
  }

  #takeStartup(): void {
    const { bytes, off, len } = this.#reader;
    const packet = parseStartupPacket(bytes, off, len);
    switch (packet.kind) {
      case "ssl":
        this.#encrypt();
        return;
      case "gssenc":
        this.#host.writer.rawByte(NO);
        return;
      case "cancel":
        this.#host.cancelOther(packet.processId, packet.secretKey);
        return;
      case "startup":
        this.#started = true;
        this.#reader.expectStartup = false;
        this.#host.admit();
        if (packet.negotiate !== undefined) {
          writeNegotiateProtocolVersion(this.#host.writer, packet.negotiate);
        }
        this.#host.started(packet);
    }
  }

  #encrypt(): void {
    const { encrypt } = this.#negotiation;
    if (encrypt === undefined) {
      this.#host.writer.rawByte(NO);
      return;
    }
    if (this.#encrypted) throw new ProtocolError("SSLRequest on a connection that is encrypted already");
    // Bytes that arrived with the request were not encrypted. Somebody else may have injected them,
    // to pass for the client (CVE-2021-23214).
    if (this.#reader.bufferedBytes > 0) throw new ProtocolError("unencrypted data after SSLRequest");
    this.#encrypted = true;
    this.#host.writer.rawByte(YES);
    this.#host.encrypt((socket) => encrypt.call(this.#negotiation, socket));
  }

  #ask(request: number, body: Uint8Array): Promise<Uint8Array> {
    if (this.#endReason !== undefined) return Promise.reject(this.#endReason);
    writeAuthenticationRequest(this.#host.writer, request, body);
    this.#reader.limits = AUTHENTICATION_LIMITS;
    const answer = new Promise<Uint8Array>((resolve, reject) => this.#answer = { resolve, reject });
    this.#host.resumeReading();
    return answer;
  }

  #takeAnswer(): void {
    const answer = this.#answer!;
    this.#answer = undefined;
    answer.resolve(this.#reader.detach());
  }
}
