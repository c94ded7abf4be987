import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { connect, type Socket } from "node:net";
import { Duplex } from "node:stream";
import { describe, test } from "node:test";
import { PgClient } from "../../../src/pgwire/client.ts";
import type { AuthenticationDialogue, Negotiation } from "../../../src/pgwire/negotiation.ts";
import { PgServer, type ServerOptions } from "../../../src/pgwire/server.ts";
import type { ConnectionHandler, Session } from "../../../src/pgwire/session.ts";
import { PgError } from "../../../src/pgwire/sqlstate.ts";

const AUTH_CLEARTEXT = 3;
const AUTH_MD5 = 5;
const AUTHENTICATION_OK = ["R".charCodeAt(0), 0, 0, 0, 8, 0, 0, 0, 0];
const SSL_REQUEST = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

class CountingHandler implements ConnectionHandler {
  started = 0;

  startup(): void {
    this.started++;
  }

  describe() {
    return null;
  }

  async query(session: Session): Promise<void> {
    session.sendCommandComplete("DONE");
  }
}

/** Two questions, so that the dialogue has a second turn. */
const TWO_PASSWORDS: Negotiation = {
  async authenticate(dialogue: AuthenticationDialogue) {
    const user = dialogue.startup.params.get("user")!;
    const first = new TextDecoder().decode(await dialogue.ask(AUTH_CLEARTEXT));
    const salt = Uint8Array.of(1, 2, 3, 4);
    const second = new TextDecoder().decode(await dialogue.ask(AUTH_MD5, salt));
    const inner = createHash("md5").update("secret" + user).digest("hex");
    const expected = "md5" + createHash("md5").update(inner).update(salt).digest("hex");
    if (first !== "secret\0" || second !== expected + "\0") {
      throw new PgError("28P01", `password authentication failed for user "${user}"`);
    }
  },
};

/** "Encryption" for a test of the plumbing: every bit turned over, both ways. */
class TurnedOver extends Duplex {
  readonly #inner: Socket;

  constructor(inner: Socket) {
    super({ allowHalfOpen: true });
    this.#inner = inner;
    inner.on("data", (chunk: Uint8Array) => {
      if (!this.push(turn(chunk))) inner.pause();
    });
    inner.on("end", () => this.push(null));
    inner.on("close", () => this.destroy());
  }

  override _read(): void {
    this.#inner.resume();
  }

  override _write(chunk: Uint8Array, _encoding: string, done: (error?: Error | null) => void): void {
    this.#inner.write(turn(chunk), done);
  }

  override _final(done: () => void): void {
    this.#inner.end(done);
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#inner.destroy();
    done(error);
  }
}

function turn(bytes: Uint8Array): Uint8Array {
  return bytes.map((byte) => byte ^ 0xff);
}

const TURNED_OVER: Negotiation = {
  encrypt: (socket) => new TurnedOver(socket) as unknown as Socket,
  authenticate(dialogue) {
    if (!dialogue.encrypted) throw new PgError("28000", "no encryption");
  },
};

async function withServer(
  options: ServerOptions,
  body: (
    address: { host: string; port: number },
    handler: CountingHandler,
    server: PgServer,
  ) => Promise<void>,
): Promise<void> {
  const handler = new CountingHandler();
  const server = new PgServer(handler, options);
  const address = await server.listen({ host: "127.0.0.1", port: 0 });
  try {
    await body(address, handler, server);
  } finally {
    await server.close();
  }
}

function startupPacket(): number[] {
  const body = [...new TextEncoder().encode("user\0zoe\0\0")];
  return [0, 0, 0, 8 + body.length, 0, 3, 0, 0, ...body];
}

function message(type: string, body: readonly number[]): number[] {
  return [type.charCodeAt(0), 0, 0, 0, 4 + body.length, ...body];
}

/** Sends bytes, and after each answer whatever `next` makes of it; returns all that came back. */
function exchange(
  port: number,
  bytes: readonly number[],
  next: (answer: Uint8Array, turnNo: number) => readonly number[] | undefined = () => undefined,
): Promise<Uint8Array> {
  return new Promise((resolve) => {
    const received: number[] = [];
    let turns = 0;
    const socket = connect({ host: "127.0.0.1", port, allowHalfOpen: true }, () => {
      socket.write(Uint8Array.from(bytes));
    });
    socket.on("data", (chunk: Uint8Array) => {
      received.push(...chunk);
      const more = next(chunk, turns++);
      if (more !== undefined) socket.write(Uint8Array.from(more));
    });
    socket.on("end", () => socket.end());
    socket.on("error", () => {});
    socket.on("close", () => resolve(Uint8Array.from(received)));
  });
}

function sqlstate(code: string) {
  return (error: unknown) => error instanceof PgError && error.sqlstate === code;
}

describe("a server's negotiation", () => {
  test("by default refuses encryption and trusts everybody", async () => {
    await withServer({}, async ({ port }, handler) => {
      const answer = await exchange(port, SSL_REQUEST, (chunk, turnNo) => {
        if (turnNo === 0) {
          assert.deepEqual([...chunk], ["N".charCodeAt(0)]);
          return startupPacket();
        }
        return message("X", []);
      });
      assert.deepEqual([...answer.subarray(1, 1 + AUTHENTICATION_OK.length)], AUTHENTICATION_OK);
      assert.equal(handler.started, 1);
    });
  });

  test("holds a dialogue before the handler sees the session", async () => {
    await withServer({ negotiation: TWO_PASSWORDS }, async (address, handler) => {
      await using client = await PgClient.connect({ ...address, user: "zoe", password: "secret" });
      assert.equal((await client.query("anything")).tag, "DONE");
      assert.equal(handler.started, 1);
      await assert.rejects(
        PgClient.connect({ ...address, user: "zoe", password: "wrong" }),
        sqlstate("28P01"),
      );
      assert.equal(handler.started, 1);
    });
  });

  test("takes nothing but answers while it asks, and no more of them than it asked for", async () => {
    await withServer({ negotiation: TWO_PASSWORDS }, async ({ port }, handler) => {
      const query = message("Q", [...new TextEncoder().encode("anything\0")]);
      const answer = new TextDecoder().decode(await exchange(port, [...startupPacket(), ...query]));
      assert.match(answer, /SFATAL\0VFATAL\0C08P01\0Minvalid message type 81/);
      const long = [0x70, 0, 1, 0, 0];
      assert.match(
        new TextDecoder().decode(await exchange(port, [...startupPacket(), ...long])),
        /message "p" is too long/,
      );
      assert.equal(handler.started, 0);
    });
  });

  test("ends when the client does not answer in time", async () => {
    await withServer({ negotiation: TWO_PASSWORDS, startupTimeoutMs: 50 }, async ({ port }) => {
      const answer = await exchange(port, startupPacket());
      assert.match(new TextDecoder().decode(answer), /authentication did not end in time/);
    });
  });

  test("ends when the server stops, and when the client leaves", async () => {
    let failures = 0;
    let asked = () => {};
    const negotiation: Negotiation = {
      async authenticate(dialogue) {
        asked();
        await dialogue.ask(AUTH_CLEARTEXT).catch((error) => {
          failures++;
          throw error;
        });
      },
    };
    await withServer({ negotiation }, async ({ host, port }, handler, server) => {
      const first = new Promise<void>((resolve) => asked = resolve);
      const leaving = connect({ host, port }, () => leaving.write(Uint8Array.from(startupPacket())));
      leaving.on("error", () => {});
      await first;
      leaving.destroy();

      const second = new Promise<void>((resolve) => asked = resolve);
      const staying = exchange(port, startupPacket());
      await second;
      await server.close();
      assert.match(new TextDecoder().decode(await staying), /the server is shutting down/);
      assert.equal(failures, 2);
      assert.equal(handler.started, 0);
    });
  });

  test("can continue on another socket after SSLRequest", async () => {
    await withServer({ negotiation: TURNED_OVER }, async ({ port }, handler) => {
      const query = message("Q", [...new TextEncoder().encode("anything\0")]);
      const request = [...startupPacket(), ...query, ...message("X", [])];
      const answer = await exchange(port, SSL_REQUEST, (_, turnNo) => {
        return turnNo === 0 ? [...turn(Uint8Array.from(request))] : undefined;
      });
      assert.equal(answer[0], "S".charCodeAt(0));
      const inside = turn(answer.subarray(1));
      assert.deepEqual([...inside.subarray(0, AUTHENTICATION_OK.length)], AUTHENTICATION_OK);
      assert.match(new TextDecoder().decode(inside), /DONE\0Z/);
      assert.equal(handler.started, 1);
      const plain = new TextDecoder().decode(await exchange(port, startupPacket()));
      assert.match(plain, /C28000\0Mno encryption/);
    });
  });

  test("refuses bytes that were sent along with SSLRequest, and a second SSLRequest", async () => {
    await withServer({ negotiation: TURNED_OVER }, async ({ port }, handler) => {
      const injected = new TextDecoder().decode(await exchange(port, [...SSL_REQUEST, ...startupPacket()]));
      assert.match(injected, /^E[^]*unencrypted data after SSLRequest/);
      const again = await exchange(port, SSL_REQUEST, (_, turnNo) => {
        return turnNo === 0 ? [...turn(Uint8Array.from(SSL_REQUEST))] : undefined;
      });
      assert.match(new TextDecoder().decode(turn(again.subarray(1))), /encrypted already/);
      assert.equal(handler.started, 0);
    });
  });
});
