import { connect } from "node:net";
import { describe, test } from "node:test";
import assert from "node:assert/strict";
import fc from "fast-check";
import { ZenithError } from "../../../src/common/errors.ts";
import { PgClient } from "../../../src/pgwire/client.ts";
import { PgServer, type ServerOptions } from "../../../src/pgwire/server.ts";
import type { ConnectionHandler } from "../../../src/pgwire/session.ts";
import { PgError } from "../../../src/pgwire/sqlstate.ts";

const ROW = [{ name: "word", type: "text" }, { name: "n", type: "int8" }] as const;

/** A server with one command of each kind. */
class SampleHandler implements ConnectionHandler {
  cancelled = 0;
  closedCount = 0;

  startup(session: { params: ReadonlyMap<string, string> }): void {
    if (session.params.get("user") === "nobody") throw new PgError("28000", "nobody may not come in");
  }

  describe(_session: unknown, sql: string) {
    return sql.startsWith("row") ? ROW : null;
  }

  async query(
    session: Parameters<ConnectionHandler["query"]>[0],
    sql: string,
    params: readonly (string | null)[],
  ): Promise<void> {
    const [command, argument] = sql.split(" ");
    switch (command) {
      case "row":
        session.sendRows(ROW, [[params[0] ?? argument ?? null, 9007199254740993n]]);
        return;
      case "fail":
        throw new ZenithError("not_found", "there is no such thing", { hint: "look elsewhere" });
      case "wait":
        await new Promise((_, reject) => {
          session.signal.addEventListener("abort", () => {
            this.cancelled++;
            reject(session.signal.reason);
          });
        });
        return;
      case "copyout":
        return session.copyOut(chunks(Number(argument)));
      case "echo": {
        const copy = session.copyBoth();
        return copy.run({ onData: (bytes, off, len) => void copy.send(bytes, off, len) });
      }
      case "throwing": {
        return session.copyBoth().run({
          onData: () => {
            throw new ZenithError("protocol", "not what I asked for");
          },
        });
      }
      case "quiet":
        return;
      default:
        throw new ZenithError("invalid_argument", `unknown command "${command}"`);
    }
  }

  closed(): void {
    this.closedCount++;
  }
}

async function* chunks(megabytes: number): AsyncGenerator<Uint8Array> {
  for (let i = 0; i < megabytes; i++) yield new Uint8Array(1 << 20).fill(i);
}

async function withServer(
  body: (address: { host: string; port: number }, handler: SampleHandler, server: PgServer) => Promise<void>,
  options: ServerOptions = {},
): Promise<void> {
  const handler = new SampleHandler();
  const server = new PgServer(handler, options);
  const address = await server.listen({ host: "127.0.0.1", port: 0 });
  try {
    await body(address, handler, server);
  } finally {
    await server.close();
  }
}

function sqlstate(code: string) {
  return (error: unknown) => error instanceof PgError && error.sqlstate === code;
}

/**
 * Sends raw bytes and returns all that comes back until the server hangs up.
 *
 * @param hangUp whether to end our side at once instead of waiting for the server to
 */
function exchange(port: number, bytes: Uint8Array, hangUp = false): Promise<Uint8Array> {
  return new Promise((resolve) => {
    const received: number[] = [];
    const socket = connect({ host: "127.0.0.1", port, allowHalfOpen: true }, () => {
      if (hangUp) socket.end(bytes);
      else socket.write(bytes);
    });
    socket.on("data", (chunk: Uint8Array) => received.push(...chunk));
    socket.on("end", () => socket.end());
    socket.on("error", () => {}); // a reset is an answer too
    socket.on("close", () => resolve(Uint8Array.from(received)));
  });
}

function startupPacket(): number[] {
  const body = [...new TextEncoder().encode("user\0zoe\0\0")];
  return [0, 0, 0, 8 + body.length, 0, 3, 0, 0, ...body];
}

describe("a server", () => {
  test("answers queries, errors and queries after errors", async () => {
    await withServer(async (address) => {
      await using client = await PgClient.connect(address);
      assert.deepEqual((await client.query("row héllo")).rows, [["héllo", "9007199254740993"]]);
      await assert.rejects(client.query("fail"), (error) => {
        assert.ok(error instanceof PgError);
        assert.equal(error.kind, "not_found");
        assert.equal(error.sqlstate, "42704");
        assert.equal(error.message, "there is no such thing");
        assert.equal(error.hint, "look elsewhere");
        return true;
      });
      assert.equal((await client.query("quiet")).tag, "QUIET");
      assert.deepEqual(await client.query(" ; "), { columns: [], rows: [], tag: "" });
      assert.equal(client.parameters.get("server_version"), "15.0 (zenith)");
    });
  });

  test("refuses whom its handler refuses", async () => {
    await withServer(async (address) => {
      await assert.rejects(PgClient.connect({ ...address, user: "nobody" }), sqlstate("28000"));
    });
  });

  test("streams COPY OUT of any size to a slow reader", async () => {
    await withServer(async (address) => {
      await using client = await PgClient.connect(address);
      const counts = new Map<number, number>();
      for await (const chunk of client.copyOut("copyout 20")) {
        for (const byte of [chunk[0], chunk[chunk.length - 1]]) assert.ok(byte < 20);
        counts.set(chunk[0], (counts.get(chunk[0]) ?? 0) + chunk.length);
        if (counts.size === 1) await new Promise((resolve) => setImmediate(resolve));
      }
      assert.equal(counts.size, 20);
      for (const count of counts.values()) assert.equal(count, 1 << 20);
      assert.equal((await client.query("quiet")).tag, "QUIET");
    });
  });

  test("echoes COPY BOTH messages unchanged and in order, far beyond its buffers", async () => {
    await withServer(async (address) => {
      await using client = await PgClient.connect(address);
      const copy = await client.copyBoth("echo");
      const messages = 3000;
      let received = 0;
      const done = copy.run({
        onData(bytes, off, len) {
          const size = (received * 7919) % 20_000;
          assert.equal(len, size);
          if (len > 0) {
            assert.equal(bytes[off], received & 255);
            assert.equal(bytes[off + len - 1], received & 255);
          }
          received++;
        },
      });
      for (let i = 0; i < messages; i++) {
        if (!copy.send(new Uint8Array((i * 7919) % 20_000).fill(i & 255))) await copy.drained();
      }
      copy.end();
      await done;
      assert.equal(received, messages);
      assert.equal((await client.query("quiet")).tag, "QUIET");
    });
  });

  test("reports what its handler throws in COPY BOTH and goes on", async () => {
    await withServer(async (address) => {
      await using client = await PgClient.connect(address);
      const copy = await client.copyBoth("throwing");
      for (let i = 0; i < 10; i++) copy.send(Uint8Array.of(1, 2, 3));
      await assert.rejects(copy.run({ onData: () => assert.fail("got data") }), sqlstate("08P01"));
      assert.equal((await client.query("quiet")).tag, "QUIET");
    });
  });

  test("cancels the running command and nothing else", async () => {
    await withServer(async (address, handler) => {
      await using client = await PgClient.connect(address);
      await client.cancel();
      const waiting = client.query("wait");
      const rejected = assert.rejects(waiting, sqlstate("57014"));
      await client.cancel();
      await rejected;
      assert.equal(handler.cancelled, 1);
      assert.equal((await client.query("quiet")).tag, "QUIET");
    });
  });

  test("aborts a command whose client goes away", async () => {
    await withServer(async (address, handler, server) => {
      const client = await PgClient.connect(address);
      const failed = assert.rejects(client.query("wait"), ZenithError);
      client.destroy();
      await failed;
      await server.close();
      assert.equal(handler.closedCount, 1);
    });
  });

  test("that closes tells idle and busy clients why", async () => {
    await withServer(async (address, _handler, server) => {
      const idle = await PgClient.connect(address);
      const busy = await PgClient.connect(address);
      const failed = assert.rejects(busy.query("wait"), sqlstate("57P01"));
      const closing = server.close();
      await failed;
      await closing;
      await assert.rejects(idle.query("quiet"), sqlstate("57P01"));
    });
  });

  test("refuses connections above its maximum", async () => {
    await withServer(async (address) => {
      await using _first = await PgClient.connect(address);
      await assert.rejects(PgClient.connect(address), sqlstate("53300"));
    }, { maxConnections: 1, idleGivesWayMs: 60_000 });
  });

  test("cuts a client that does not send its startup packet", async () => {
    await withServer(async ({ port }) => {
      const answer = await exchange(port, Uint8Array.of(0, 0, 0));
      assert.match(new TextDecoder().decode(answer), /startup packet did not arrive in time/);
    }, { startupTimeoutMs: 50 });
  });

  test("says on which port it could not listen", async () => {
    await withServer(async (address) => {
      await assert.rejects(
        new PgServer(new SampleHandler()).listen(address),
        (error) =>
          error instanceof ZenithError && error.kind === "unavailable" && /port is taken/.test(error.message),
      );
    });
  });

  test("answers broken protocol with an error, hangs up, and serves the next client", async () => {
    await withServer(async (address) => {
      const hello = startupPacket();
      const broken: number[][] = [
        [...new TextEncoder().encode("GET / HTTP/1.1\r\n\r\n")],
        [0, 0, 0, 8, 0, 2, 0, 0],
        [...hello, 1, 0, 0, 0, 4],
        [...hello, 0x51, 0x7f, 0xff, 0xff, 0xff],
        [...hello, 0x51, 0, 0, 0, 3],
        [...hello, 0x51, 0, 0, 0, 5, 0x41],
        [...hello, 0x51, 0, 0, 0, 6, 0xff, 0],
        [...hello, 0x42, 0, 0, 0, 4],
        [...hello, 0x44, 0, 0, 0, 6, 0x5a, 0],
        [...hello, 0x45, 0, 0, 0, 5, 0],
      ];
      for (const bytes of broken) {
        const answer = new TextDecoder().decode(await exchange(address.port, Uint8Array.from(bytes)));
        assert.match(answer, /SFATAL\0VFATAL\0C[0-9A-Z]{5}\0M/, JSON.stringify(bytes));
      }
      await using client = await PgClient.connect(address);
      assert.equal((await client.query("quiet")).tag, "QUIET");
    });
  });

  test("survives random bytes after a startup packet", async () => {
    await withServer(async (address) => {
      const message = fc.tuple(fc.constantFrom(..."QPBDECHSXdcfF"), fc.uint8Array({ maxLength: 30 }));
      await fc.assert(
        fc.asyncProperty(
          fc.array(message, { maxLength: 6 }),
          fc.uint8Array({ maxLength: 10 }),
          async (frames, tail) => {
            const bytes = startupPacket();
            for (const [type, body] of frames) {
              bytes.push(type.charCodeAt(0), 0, 0, 0, body.length + 4, ...body);
            }
            // A message type that no client sends: the server hangs up here at the latest.
            await exchange(address.port, Uint8Array.from([...bytes, ...tail, 1, 1, 1, 1, 1, 1, 1, 1, 1]));
          },
        ),
        { numRuns: 30 },
      );
      await using client = await PgClient.connect(address);
      assert.equal((await client.query("quiet")).tag, "QUIET");
    });
  });
});
