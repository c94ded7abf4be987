import assert from "node:assert/strict";
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { describe, test } from "node:test";
import { parseOpenFilesLimit } from "../../../src/common/open_files.ts";
import { PgClient } from "../../../src/pgwire/client.ts";
import { ExtendedQuery } from "../../../src/pgwire/extended_query.ts";
import type { FrameWriter } from "../../../src/pgwire/frame_writer.ts";
import {
  connectionLimits,
  MAX_CONNECTIONS,
  PREPARED_MAX_BYTES,
  QUERY_MAX_BYTES,
} from "../../../src/pgwire/limits.ts";
import { PgServer, type ServerOptions } from "../../../src/pgwire/server.ts";
import { PgError } from "../../../src/pgwire/sqlstate.ts";

const COLUMNS = [{ name: "n", type: "int4" }] as const;

async function withServer(
  options: ServerOptions,
  body: (connect: () => Promise<PgClient>, errors: unknown[]) => Promise<void>,
): Promise<void> {
  const errors: unknown[] = [];
  const server = new PgServer({
    describe: () => COLUMNS,
    query: (session, sql) => {
      if (sql === "stream") return session.copyBoth().run({ onData() {} });
      session.sendRows(COLUMNS, [[1]]);
      return Promise.resolve();
    },
  }, { ...options, onConnectionError: (_client, error) => void errors.push(error) });
  const address = await server.listen({ host: "127.0.0.1", port: 0 });
  const clients: PgClient[] = [];
  try {
    await body(async () => {
      const client = await PgClient.connect({ ...address, user: "zenith" });
      clients.push(client);
      return client;
    }, errors);
  } finally {
    for (const client of clients) client.destroy();
    await server.close();
  }
}

describe("a server that is full", () => {
  test("ends the connection that has been idle longest, and none that has a command", async () => {
    await withServer({ maxConnections: 3, idleGivesWayMs: 0 }, async (connect) => {
      const streaming = await connect();
      const copy = await streaming.copyBoth("stream");
      const oldest = await connect();
      const other = await connect();
      await other.query("select 1");
      const fourth = await connect();
      await fourth.query("select 1");
      await other.query("select 1");
      await assert.rejects(oldest.query("select 1"));
      assert.ok(copy.sending);
    });
  });

  test("turns newcomers away when nobody is idle for long enough", async () => {
    await withServer({ maxConnections: 1, idleGivesWayMs: 60_000 }, async (connect) => {
      await connect();
      await assert.rejects(connect(), (error) => error instanceof PgError && error.sqlstate === "53300");
    });
  });

  test("ends those that have had no command for the whole idle time", async () => {
    await withServer({ idleTimeoutMs: 20 }, async (connect, errors) => {
      const client = await connect();
      while (errors.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
      assert.ok(errors[0] instanceof PgError && errors[0].sqlstate === "57P05");
      await assert.rejects(client.query("select 1"));
    });
  });
});

describe("what all connections of a server hold", () => {
  /** A query that is read ahead while the one before it runs. */
  const parse = (name: string, length: number): Uint8Array => {
    const body = Buffer.from(`${name}\0${"x".repeat(length)}\0\0\0`);
    const frame = Buffer.alloc(5 + body.length);
    frame.write("P");
    frame.writeInt32BE(4 + body.length, 1);
    body.copy(frame, 5);
    return frame;
  };
  const KIB = 1024;

  /** A session that is there, as its socket; what it is sent, and whether it has ended. */
  async function session(
    address: { host: string; port: number },
  ): Promise<{ socket: Socket; said: () => string }> {
    const socket = connect(address.port, address.host);
    let said = "";
    socket.setEncoding("latin1").on("data", (text: string) => said += text).on("error", () => {});
    const startup = Buffer.from("\0\0\0\0\0\x03\0\0user\0z\0\0", "latin1");
    startup.writeInt32BE(startup.length, 0);
    socket.write(startup);
    while (!said.includes("Z\0\0\0\x05") && !said.includes("FATAL")) await once(socket, "data");
    return { socket, said: () => said };
  }

  test("is bounded: who wants more is ended with the reason, and others stay", async () => {
    const server = new PgServer({ describe: () => COLUMNS, query: () => Promise.resolve() }, {
      maxHeldBytes: 700 * KIB,
    });
    const address = await server.listen({ host: "127.0.0.1", port: 0 });
    const small = await session(address);
    const [first, second] = [await session(address), await session(address)];
    // Each takes twice its characters.
    for (const { socket } of [first, second]) {
      for (let i = 0; i < 4; i++) socket.write(parse(`s${i}`, 60 * KIB));
    }
    while (![first, second].some(({ said }) => said().includes("hold too much"))) {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    const ended = first.said().includes("hold too much") ? first : second;
    assert.match(ended.said(), /C53200/);
    const staying = ended === first ? second : first;
    assert.doesNotMatch(staying.said(), /FATAL/);
    small.socket.write(parse("little", 10));
    ended.socket.destroy();
    // What it held is free again.
    let later = await session(address);
    while (later.said().includes("FATAL")) later = await session(address);
    assert.doesNotMatch(small.said(), /FATAL/);
    for (const { socket } of [small, staying, later]) socket.destroy();
    await server.close();
  });

  test("keeps newcomers out while it is too much, and nobody is ended who holds little", async () => {
    const server = new PgServer({ describe: () => COLUMNS, query: () => Promise.resolve() }, {
      maxHeldBytes: 10 * KIB,
    });
    const address = await server.listen({ host: "127.0.0.1", port: 0 });
    const { socket, said } = await session(address);
    socket.write(parse("s", 20 * KIB));
    // A flush: the answer comes when the statement is there.
    socket.write(Buffer.from("H\0\0\0\x04", "latin1"));
    while (!said().includes("1\0\0\0\x04")) await once(socket, "data");
    const newcomer = await session(address);
    assert.match(newcomer.said(), /C53200\0Mno more connections: those there are hold more than 10240 bytes/);
    assert.doesNotMatch(said(), /FATAL/);
    socket.destroy();
    newcomer.socket.destroy();
    await server.close();
  });
});

describe("prepared statements of a connection", () => {
  // Answers are of no interest.
  const out = { empty() {} } as unknown as FrameWriter;
  const parse = (name: string, sql: string): Uint8Array => Buffer.from(`${name}\0${sql}\0\0\0`);

  test("take no more memory than one may, and give it back", () => {
    const session = new ExtendedQuery();
    const sql = "x".repeat(QUERY_MAX_BYTES - 200);
    const prepare = (name: string) => {
      const body = parse(name, sql);
      session.parse(out, body, 0, body.length);
    };
    const count = Math.floor(PREPARED_MAX_BYTES / (2 * QUERY_MAX_BYTES));
    for (let i = 0; i < count; i++) prepare(`s${i}`);
    assert.throws(() => prepare("more"), /prepared statements take too much memory/);
    const close = Buffer.from("Ss0\0");
    session.close(out, close, 0, close.length);
    prepare("more");
    // The unnamed one is replaced, not added.
    session.close(out, close, 0, close.length);
    assert.throws(() => prepare(""), /too much memory/);
  });

  test("count the parameters that a text of few characters claims", () => {
    const session = new ExtendedQuery();
    const prepare = (name: string) => {
      const body = parse(name, "select $32767");
      session.parse(out, body, 0, body.length);
    };
    assert.throws(() => {
      for (let i = 0; i < 10; i++) prepare(`s${i}`);
    }, /too much memory/);
  });
});

test("a process that may open few files takes few connections", () => {
  assert.equal(connectionLimits(20_000).connections, MAX_CONNECTIONS);
  for (const files of [128, 256, 1024, 2048]) {
    const { connections, refused } = connectionLimits(files);
    assert.ok(connections + refused <= files / 2, `${files}: ${connections} + ${refused}`);
  }
  assert.equal(
    parseOpenFilesLimit(
      "Max cpu time  unlimited\nMax open files            256                  4096   files\n",
    ),
    256,
  );
  assert.equal(
    parseOpenFilesLimit("Max open files            unlimited            unlimited   files\n"),
    Infinity,
  );
  assert.equal(parseOpenFilesLimit("nothing"), 1024);
});
