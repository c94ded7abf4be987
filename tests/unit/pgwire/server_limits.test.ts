import assert from "node:assert/strict";
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
