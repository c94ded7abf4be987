/**
 * A small PostgreSQL client for what the `postgres` package does not do: physical replication, COPY
 * BOTH, and COPY OUT with backpressure. It runs only simple queries, one at a time.
 */
import { connect as connectSocket, type Socket } from "node:net";
import { join } from "node:path";
import { assert } from "../common/assert.ts";
import { errorMessage, systemErrorCode, ZenithError } from "../common/errors.ts";
import { ByteCursor } from "./byte_cursor.ts";
import {
  authenticate,
  parseErrorResponse,
  type ServerColumn,
  writeStartupPacket,
} from "./client_messages.ts";
import { ScramClient } from "./client_auth.ts";
import { type ConnInfo, parseConnInfo } from "./conninfo.ts";
import { CopyBoth, type CopyBothHost } from "./copy_both.ts";
import { FramePump } from "./frame_pump.ts";
import { FrameReader } from "./frame_reader.ts";
import { FrameWriter } from "./frame_writer.ts";
import { CONNECT_TIMEOUT_MS, LINGER_MS, READ_AHEAD_MAX_BYTES, TCP_KEEPALIVE_MS } from "./limits.ts";
import { type ClientTls, requestTls } from "./tls.ts";
import * as message from "./message_types.ts";
import { PgError, ProtocolError } from "./sqlstate.ts";

export type ConnectOptions = Partial<ConnInfo> & {
  /** Aborting the signal cuts the connection, even after login. */
  signal?: AbortSignal;
  /** The path of a Unix socket, to connect to instead of the host. */
  socketPath?: string;
  /** Encrypts the connection, and verifies the server before anything is sent to it. */
  tls?: ClientTls;
  /** NoticeResponse and warnings. */
  onNotice?(notice: PgError): void;
};

/**
 * Enough for a MiB of pages, which arrive in many pieces. A buffer of its own for each such message
 * costs more than to receive it.
 */
const CARRY_KEEP_BYTES = 2 << 20;

export interface QueryResult {
  columns: readonly ServerColumn[];
  rows: (string | null)[][];
  /** CommandComplete's text, e.g. `SELECT 1`. */
  tag: string;
}

/** The running command: what it has collected from the server's messages, and how it ends. */
interface Command {
  results: QueryResult[];
  error: unknown;
  /** For COPY OUT: chunks that the consumer has not taken yet. */
  chunks: Uint8Array[];
  chunkBytes: number;
  wake: (() => void) | undefined;
  finished: boolean;
  started: (() => void) | undefined;
  copyOut: boolean;
  copyBoth: CopyBoth | undefined;
  resolve(): void;
  reject(error: unknown): void;
}

export class PgClient implements CopyBothHost {
  /** What the server has reported about itself: `server_version`, `TimeZone`, … */
  readonly parameters = new Map<string, string>();
  processId = 0;
  secretKey = 0;
  readonly writer: FrameWriter;
  /** The server's ReadyForQuery completes the stream. Only then can the next command run. */
  readonly copyDoneCompletes = false;

  readonly #info: ConnInfo;
  readonly #options: ConnectOptions;
  #socket: Socket;
  readonly #reader = new FrameReader(message.BACKEND_LIMITS, CARRY_KEEP_BYTES);
  readonly #pump: FramePump;
  #scram: ScramClient | undefined;
  #authenticating = false;
  #ready: { resolve(): void; reject(error: unknown): void } | undefined;
  #command: Command | undefined;
  #closed = false;
  #closeReason: unknown;
  #onClosed: (() => void)[] = [];

  /**
   * Connects and logs in.
   *
   * @param options a connection string, or its parts
   * @throws {ZenithError} `unavailable` when nobody answers, `timeout` when nobody answers in time;
   *   `invalid_argument` when an `sslmode` asks for TLS, and nothing says how
   * @throws {PgError} when the server refuses
   */
  static async connect(options: string | ConnectOptions): Promise<PgClient> {
    const given: ConnectOptions = typeof options === "string" ? parseConnInfo(options) : options;
    const user = given.user ?? "postgres";
    const info: ConnInfo = {
      host: given.host ?? "localhost",
      port: given.port ?? 5432,
      user,
      database: given.database ?? user,
      password: given.password,
      options: given.options,
      applicationName: given.applicationName,
      replication: given.replication ?? false,
      connectTimeoutMs: given.connectTimeoutMs,
      sslMode: given.sslMode,
      sslRootCert: given.sslRootCert,
    };
    if (given.tls === undefined && needsTls(info)) {
      throw new ZenithError("invalid_argument", `sslmode=${info.sslMode}: this connection is not encrypted`);
    }
    given.signal?.throwIfAborted();
    const client = new PgClient(info, given);
    await client.#login();
    return client;
  }

  private constructor(info: ConnInfo, options: ConnectOptions) {
    this.#info = info;
    this.#options = options;
    this.#socket = openSocket(info, options.socketPath);
    this.writer = new FrameWriter(this.#socket);
    const socket = this.#socket;
    this.#watch(socket);
    this.#pump = new FramePump(socket, this.#reader, this.writer, {
      mayRead: () => this.#mayRead(),
      handle: () => this.#dispatch(),
      fail: (error) => this.#close(error),
    });
  }

  /** Whether the connection is closed. */
  get closed(): boolean {
    return this.#closed;
  }

  /**
   * Runs a simple query and returns the result of its last command.
   *
   * @throws {PgError} what the server reports
   */
  async query(sql: string): Promise<QueryResult> {
    const { command, done } = this.#begin(sql);
    await done;
    return command.results.at(-1) ?? { columns: [], rows: [], tag: "" };
  }

  /**
   * Runs a command that answers with COPY OUT and yields the chunks as they arrive, no faster than
   * the caller takes them. Leaving the iteration early cuts the connection.
   *
   * @throws {PgError} what the server reports, possibly midway
   */
  async *copyOut(sql: string): AsyncGenerator<Uint8Array, void, void> {
    const { command, done } = this.#begin(sql);
    done.catch(() => {}); // thrown below, after the chunks that came before it
    let complete = false;
    try {
      for (;;) {
        const chunk = command.chunks.shift();
        if (chunk !== undefined) {
          command.chunkBytes -= chunk.length;
          yield chunk;
          continue;
        }
        if (command.finished) break;
        await new Promise<void>((resolve) => {
          command.wake = resolve;
          this.#pump.run();
        });
      }
      complete = true;
    } finally {
      if (!complete) this.destroy();
    }
    await done;
    if (!command.copyOut) {
      throw new ProtocolError(`${this.#where()}: expected COPY OUT as the answer to ${sql}`);
    }
  }

  /**
   * Runs a command that answers with results and then COPY OUT, for its results. Cuts the
   * connection, because nobody wants the rest.
   *
   * @throws {PgError} what the server reports instead
   */
  async resultsBeforeCopy(sql: string): Promise<readonly QueryResult[]> {
    const { command, done } = this.#begin(sql);
    const copying = new Promise<void>((resolve) => command.started = resolve);
    try {
      await Promise.race([copying, done]);
      return command.results;
    } finally {
      done.catch(() => {});
      this.destroy();
    }
  }

  /**
   * Runs a command that answers with COPY BOTH. Other commands can run once both directions have
   * ended.
   *
   * @throws {PgError} when the server reports an error instead
   */
  async copyBoth(sql: string): Promise<CopyBoth> {
    const { command, done } = this.#begin(sql);
    const started = new Promise<void>((resolve) => command.started = resolve);
    await Promise.race([started, done]);
    if (command.copyBoth === undefined) {
      throw new ProtocolError(`${this.#where()}: expected COPY BOTH as the answer to ${sql}`);
    }
    done.catch((error) => command.copyBoth?.close(error));
    return command.copyBoth;
  }

  /** Asks the server, over a separate connection, to cancel the running command. */
  cancel(): Promise<void> {
    return new Promise((resolve, reject) => {
      const socket = openSocket(this.#info, this.#options.socketPath);
      const writer = new FrameWriter(socket);
      socket.on("error", reject);
      socket.on("close", () => resolve());
      socket.on("data", () => {});
      socket.on("connect", () => {
        writer.int32(16);
        writer.int32(message.CANCEL_REQUEST_CODE);
        writer.int32(this.processId);
        writer.int32(this.secretKey);
        writer.flush();
        socket.end();
      });
    });
  }

  /** Says goodbye and waits until the connection is closed. */
  async close(): Promise<void> {
    if (this.#closed) return;
    const gone = new Promise<void>((resolve) => this.#onClosed.push(resolve));
    this.writer.empty(message.TERMINATE);
    this.writer.flush();
    this.#socket.end();
    if (this.#socket.isPaused()) this.#socket.resume();
    const timer = setTimeout(() => this.destroy(), LINGER_MS);
    await gone;
    clearTimeout(timer);
  }

  /** Cuts the connection. A running command fails. */
  destroy(): void {
    this.#close(new ZenithError("unavailable", `${this.#where()}: the connection was closed`));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** @internal */
  resumeReading(): void {
    this.#pump.run();
  }

  async #login(): Promise<void> {
    const timeoutMs = this.#info.connectTimeoutMs ?? CONNECT_TIMEOUT_MS;
    const timer = setTimeout(() => {
      this.#close(new ZenithError("timeout", `${this.#where()}: no connection within ${timeoutMs} ms`));
    }, timeoutMs);
    const signal = this.#options.signal;
    const aborted = () => this.#close(signal!.reason);
    signal?.addEventListener("abort", aborted, { once: true });
    this.#onClosed.push(() => signal?.removeEventListener("abort", aborted));
    this.#socket.once("connect", () => void this.#start());
    try {
      await new Promise<void>((resolve, reject) => this.#ready = { resolve, reject });
    } finally {
      clearTimeout(timer);
      this.#ready = undefined;
    }
  }

  #watch(socket: Socket): void {
    socket.on("error", (error: Error) => {
      this.#close(
        new ZenithError("unavailable", `${this.#where()}: ${errorMessage(error) || systemErrorCode(error)}`, {
          cause: error,
        }),
      );
    });
    const gone = () => {
      this.#close(new ZenithError("unavailable", `${this.#where()}: the server closed the connection`));
    };
    socket.on("end", gone);
    socket.on("close", gone);
  }

  async #start(): Promise<void> {
    const { tls } = this.#options;
    try {
      if (tls !== undefined) await this.#encrypt(tls);
      writeStartupPacket(this.writer, this.#info);
      this.writer.flush();
    } catch (error) {
      this.#close(error);
    }
  }

  async #encrypt(tls: ClientTls): Promise<void> {
    const plain = this.#socket;
    this.#pump.leaveSocket();
    plain.removeAllListeners();
    // The connection may be given up while it is being encrypted.
    plain.on("error", () => {});
    const socket = await requestTls(plain, tls);
    if (this.#closed) {
      socket.destroy();
      return;
    }
    this.#socket = socket;
    this.#pump.changeSocket(socket);
    this.writer.changeSocket(socket);
    this.#watch(socket);
  }

  #begin(sql: string): { command: Command; done: Promise<void> } {
    if (this.#closed) throw this.#closeReason;
    assert(this.#command === undefined, "PgClient: a command while another one is running");
    let resolve!: () => void;
    let reject!: (error: unknown) => void;
    const done = new Promise<void>((onResolve, onReject) => {
      resolve = onResolve;
      reject = onReject;
    });
    const command: Command = {
      results: [],
      error: undefined,
      chunks: [],
      chunkBytes: 0,
      wake: undefined,
      finished: false,
      started: undefined,
      copyOut: false,
      copyBoth: undefined,
      resolve,
      reject,
    };
    this.#command = command;
    this.writer.begin(message.QUERY);
    this.writer.cstring(sql);
    this.writer.finish();
    this.writer.flush();
    return { command, done };
  }

  #mayRead(): boolean {
    if (this.#authenticating) return false;
    const command = this.#command;
    if (command === undefined) return true;
    if (command.copyBoth !== undefined) {
      return command.copyBoth.receiving || command.copyBoth.closed || command.copyBoth.ended;
    }
    return command.chunkBytes <= READ_AHEAD_MAX_BYTES;
  }

  #dispatch(): void {
    const { type, bytes, off, len } = this.#reader;
    const command = this.#command;
    if (type === message.COPY_DATA && command !== undefined) {
      this.#copyData(command, bytes, off, len);
      return;
    }
    const cursor = new ByteCursor(`message "${String.fromCharCode(type)}"`, bytes, off, len);
    switch (type) {
      case message.AUTHENTICATION:
        this.#authentication(cursor);
        return;
      case message.BACKEND_KEY_DATA:
        this.processId = cursor.int32();
        this.secretKey = cursor.int32();
        return;
      case message.PARAMETER_STATUS:
        this.parameters.set(cursor.cstring(), cursor.cstring());
        return;
      case message.NOTICE_RESPONSE:
        this.#options.onNotice?.(parseErrorResponse(cursor));
        return;
      case message.NOTIFICATION_RESPONSE:
      case message.NEGOTIATE_PROTOCOL_VERSION:
        return;
      case message.ERROR_RESPONSE:
        this.#error(parseErrorResponse(cursor));
        return;
      case message.READY_FOR_QUERY:
        this.#readyForQuery();
        return;
    }
    if (command === undefined) {
      throw new ProtocolError(`${this.#where()}: unexpected message "${String.fromCharCode(type)}"`);
    }
    this.#dispatchResult(command, type, cursor);
  }

  #dispatchResult(command: Command, type: number, cursor: ByteCursor): void {
    switch (type) {
      case message.ROW_DESCRIPTION: {
        const columns: ServerColumn[] = [];
        for (let left = cursor.count(); left > 0; left--) {
          const name = cursor.cstring();
          cursor.bytes(6); // table and attribute number
          const typeOid = cursor.int32();
          cursor.bytes(8); // length, typmod, format
          columns.push({ name, typeOid });
        }
        command.results.push({ columns, rows: [], tag: "" });
        return;
      }
      case message.DATA_ROW: {
        const result = command.results.at(-1);
        if (result === undefined) throw new ProtocolError(`${this.#where()}: a row without a description`);
        const row: (string | null)[] = [];
        for (let left = cursor.count(); left > 0; left--) {
          const length = cursor.int32();
          row.push(length === -1 ? null : cursor.text(length));
        }
        result.rows.push(row);
        return;
      }
      case message.COMMAND_COMPLETE: {
        const tag = cursor.cstring();
        const last = command.results.at(-1);
        if (last !== undefined && last.tag === "") last.tag = tag;
        else command.results.push({ columns: [], rows: [], tag });
        return;
      }
      case message.COPY_OUT_RESPONSE:
        command.copyOut = true;
        command.started?.();
        return;
      case message.COPY_BOTH_RESPONSE:
        command.copyBoth = new CopyBoth(this);
        command.started?.();
        return;
      case message.COPY_DONE:
        if (command.copyBoth !== undefined && !command.copyBoth.closed) command.copyBoth.deliverEnd();
        return;
      case message.COPY_IN_RESPONSE:
        this.writer.begin(message.COPY_FAIL);
        this.writer.cstring("COPY FROM STDIN is not supported");
        this.writer.finish();
        return;
      case message.EMPTY_QUERY_RESPONSE:
        return;
      default:
        throw new ProtocolError(`${this.#where()}: unexpected message "${String.fromCharCode(type)}"`);
    }
  }

  #copyData(command: Command, bytes: Uint8Array, off: number, len: number): void {
    const copy = command.copyBoth;
    if (copy !== undefined) {
      if (copy.closed) return;
      try {
        copy.deliver(bytes, off, len);
      } catch (error) {
        // The receiver can't go on, and the server would send forever.
        this.#close(error);
      }
      return;
    }
    if (!command.copyOut) throw new ProtocolError(`${this.#where()}: CopyData outside of COPY`);
    command.chunks.push(this.#reader.detach());
    command.chunkBytes += len;
    this.#wake(command);
  }

  #authentication(cursor: ByteCursor): void {
    this.#authenticating = true;
    authenticate(this.writer, cursor, this.#info, this.#scram).then((scram) => {
      this.#scram = scram;
      this.#authenticating = false;
      this.#pump.run();
    }, (error) => this.#close(error));
  }

  #error(error: PgError): void {
    const command = this.#command;
    if (command === undefined) {
      this.#close(error);
      return;
    }
    command.error ??= error;
    command.copyBoth?.close(error);
  }

  #readyForQuery(): void {
    this.#ready?.resolve();
    const command = this.#command;
    if (command === undefined) return;
    this.#command = undefined;
    command.finished = true;
    if (command.error === undefined) command.resolve();
    else command.reject(command.error);
    command.copyBoth?.close(command.error);
    this.#wake(command);
  }

  #wake(command: Command): void {
    const wake = command.wake;
    command.wake = undefined;
    wake?.();
  }

  #close(reason: unknown): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#closeReason = reason;
    this.#pump.stop();
    this.writer.close();
    this.#socket.destroy();
    this.#ready?.reject(reason);
    const command = this.#command;
    if (command !== undefined) {
      this.#command = undefined;
      command.finished = true;
      // An error reported by the server says more than the end of the connection that followed.
      command.reject(command.error ?? reason);
      command.copyBoth?.close(command.error ?? reason);
      this.#wake(command);
    }
    for (const callback of this.#onClosed) callback();
  }

  #where(): string {
    return `${this.#info.host}:${this.#info.port}`;
  }
}

function openSocket(info: ConnInfo, socketPath: string | undefined): Socket {
  if (socketPath !== undefined) return connectSocket({ path: socketPath });
  if (info.host.startsWith("/")) return connectSocket({ path: join(info.host, `.s.PGSQL.${info.port}`) });
  const socket = connectSocket({ host: info.host, port: info.port });
  socket.setNoDelay(true);
  socket.setKeepAlive(true, TCP_KEEPALIVE_MS);
  return socket;
}

function needsTls({ host, sslMode }: ConnInfo): boolean {
  return sslMode !== undefined && sslMode !== "disable" && sslMode !== "prefer" && !host.startsWith("/");
}
