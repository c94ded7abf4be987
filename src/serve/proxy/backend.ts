/** Logs in to the Postgres of a compute, as the client that has proved to know the password. */
import { connect, type Socket } from "node:net";
import type { HostPort } from "../../common/host_port.ts";
import { ZenithError } from "../../common/errors.ts";
import { ScramClient, type ScramKeys } from "../../pgwire/client_auth.ts";
import * as code from "../../pgwire/message_types.ts";
import { PgError, ProtocolError, SQLSTATE_INVALID_PASSWORD } from "../../pgwire/sqlstate.ts";
import { errorFields, int32, message, startup } from "./messages.ts";
import { SCRAM } from "./scram_server.ts";
import { Wire } from "./wire.ts";

/** A session of a Postgres that waits for its first command. */
export interface Backend {
  readonly wire: Wire;
  /** What it has said since AuthenticationOk, up to ReadyForQuery: for the client. */
  readonly greeting: Buffer;
  /** The process id and the secret by which its commands are canceled. */
  readonly cancelKey: Buffer;
}

const CONNECT_TIMEOUT_MS = 10_000;
/** A Postgres that a crowd connects to answers one after another. */
const LOGIN_TIMEOUT_MS = 60_000;
const CANCEL_TIMEOUT_MS = 10_000;
/** An error has a message; the largest other one is a parameter's value. */
const MESSAGE_MAX_BYTES = 64 * 1024;

/** An error that Postgres itself has sent instead of a session: the client gets it as it is. */
export class BackendRefusal extends PgError {
  override name = "BackendRefusal";
  /** The whole ErrorResponse. */
  readonly bytes: Buffer;

  constructor(body: Buffer) {
    const fields = errorFields(body);
    super(fields.get("C") ?? "XX000", fields.get("M") ?? "", { severity: fields.get("S") ?? "FATAL" });
    this.bytes = message(code.ERROR_RESPONSE, body);
  }
}

/**
 * @param params of the startup packet
 * @throws {BackendRefusal} what Postgres answers instead; {@link ZenithError} `unavailable`
 */
export async function logIn(
  address: HostPort,
  params: ReadonlyMap<string, string>,
  secret: string | ScramKeys,
): Promise<Backend> {
  const wire = await open(address);
  try {
    wire.setDeadline(LOGIN_TIMEOUT_MS, "the Postgres did not answer in time");
    wire.write(startup(params));
    await authenticate(wire, secret);
    const backend = await untilReady(wire);
    wire.setDeadline(undefined);
    return backend;
  } catch (error) {
    wire.destroy();
    throw error;
  }
}

/**
 * Passes on a wish to cancel a command. Nobody answers it: the other end closes when it has done
 * what it can. A pooler forgets the wish of a client that closes first.
 */
export async function cancel(address: HostPort, key: Uint8Array): Promise<void> {
  const wire = await open(address);
  wire.setDeadline(CANCEL_TIMEOUT_MS);
  wire.write(Buffer.concat([int32(key.length + 8), int32(code.CANCEL_REQUEST_CODE), key]));
  await wire.read(1).catch(() => undefined);
  wire.destroy();
}

async function open({ host, port }: HostPort): Promise<Wire> {
  const socket: Socket = connect({ host, port });
  const timer = setTimeout(() => socket.destroy(new Error("no answer")), CONNECT_TIMEOUT_MS);
  try {
    await new Promise<void>((resolve, reject) => {
      socket.once("connect", resolve);
      socket.once("error", reject);
    });
  } catch (error) {
    throw new ZenithError("unavailable", "the Postgres of this endpoint does not answer", { cause: error });
  } finally {
    clearTimeout(timer);
  }
  socket.setNoDelay(true);
  socket.setKeepAlive(true, KEEPALIVE_MS);
  return new Wire(socket);
}

const KEEPALIVE_MS = 30_000;

async function authenticate(wire: Wire, secret: string | ScramKeys): Promise<void> {
  const scram = new ScramClient(secret);
  for (;;) {
    const { type, body } = await wire.message(MESSAGE_MAX_BYTES);
    if (type === code.ERROR_RESPONSE) throw new BackendRefusal(body);
    if (type === code.NOTICE_RESPONSE || type === code.NEGOTIATE_PROTOCOL_VERSION) continue;
    if (type !== code.AUTHENTICATION) throw unexpected(type);
    const data = body.subarray(4);
    switch (body.readInt32BE(0)) {
      case code.AUTH_OK:
        return;
      case code.AUTH_CLEARTEXT:
        if (typeof secret !== "string") throw notScram();
        wire.write(message(code.PASSWORD_MESSAGE, `${secret}\0`));
        break;
      case code.AUTH_SASL: {
        const first = Buffer.from(scram.firstMessage());
        wire.write(message(code.PASSWORD_MESSAGE, `${SCRAM}\0`, int32(first.length), first));
        break;
      }
      case code.AUTH_SASL_CONTINUE:
        wire.write(message(code.PASSWORD_MESSAGE, await scram.finalMessage(data.toString())));
        break;
      case code.AUTH_SASL_FINAL:
        scram.verify(data.toString());
        break;
      default:
        throw notScram();
    }
  }
}

function notScram(): PgError {
  return new PgError(SQLSTATE_INVALID_PASSWORD, "this role's pg_hba.conf line asks for no SCRAM", {
    severity: "FATAL",
    hint:
      'only scram-sha-256 and trust pass through the proxy: "zenith branch" pages say where pg_hba.conf is',
  });
}

async function untilReady(wire: Wire): Promise<Backend> {
  const greeting: Buffer[] = [];
  let cancelKey: Buffer = Buffer.alloc(0);
  for (;;) {
    const { type, body } = await wire.message(MESSAGE_MAX_BYTES);
    if (type === code.ERROR_RESPONSE) throw new BackendRefusal(body);
    if (type === code.BACKEND_KEY_DATA) cancelKey = Buffer.from(body);
    greeting.push(message(type, body));
    if (type === code.READY_FOR_QUERY) return { wire, greeting: Buffer.concat(greeting), cancelKey };
  }
}

function unexpected(type: number): ProtocolError {
  return new ProtocolError(`the Postgres sent "${String.fromCharCode(type)}" instead of a greeting`);
}
