import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { errorMessage } from "../../../../src/common/errors.ts";
import type { Timeline } from "../../../../src/pageserver/timeline/timeline.ts";
import { WalReceiver } from "../../../../src/pageserver/timeline/wal_receiver.ts";
import { PgClient } from "../../../../src/pgwire/client.ts";
import { formatConnInfo, parseConnInfo } from "../../../../src/pgwire/conninfo.ts";
import { PgServer } from "../../../../src/pgwire/server.ts";
import { reportOf } from "../../../../src/pgwire/sqlstate.ts";
import { createLogger } from "../../../../src/process/log.ts";

const SECRET = "hunter2";
const IDENTITY = [
  { name: "systemid", type: "text" },
  { name: "timeline", type: "int8" },
  { name: "xlogpos", type: "text" },
  { name: "dbname", type: "text" },
] as const;

test("the password of a WAL source reaches neither log nor status nor error", async () => {
  const dir = mkdtempSync(join(tmpdir(), "zenith-secrets-"));
  const file = join(dir, "pageserver.log");
  const logger = createLogger({ name: "pageserver", file, level: "debug" });
  const timeline = { timelineId: "t", systemIdentifier: 1n } as unknown as Timeline;
  /** Another cluster than the timeline's, so that the receiver complains of its source by name. */
  const walsender = new PgServer({
    describe: () => IDENTITY,
    query: async (session, sql) => {
      if (sql !== "IDENTIFY_SYSTEM") throw new Error(`a walsender knows no ${sql}`);
      session.sendRows(IDENTITY, [["2", 1n, "0/16B3740", null]]);
    },
  }, {
    onQueryError: (_, command, err) => logger.warn("command failed", { command, err }),
  });
  const shown: string[] = [];
  try {
    const { host, port } = await walsender.listen({ host: "127.0.0.1", port: 0 });
    const sources = [
      `postgres://zoe:${SECRET}@${host}:${port}/main`,
      formatConnInfo({ host, port, user: "zoe", password: `it's ${SECRET}` }),
      `postgres://zoe:${SECRET}@${host}:1/main`,
    ];
    for (const source of sources) {
      const receiver = new WalReceiver(
        timeline,
        { connInfo: source, credentials: undefined, showsToken: false },
        logger,
        Promise.resolve(),
      );
      await receiver.ended;
      assert.match(receiver.state.error ?? "", /another cluster|ECONNREFUSED/);
      shown.push(JSON.stringify(receiver.state));
      await using client = await PgClient.connect({ host, port });
      await client.query(`callmemaybe 1 2 ${source}`).catch((error) => shown.push(errorMessage(error)));
      logger.child({ source }).info(`now from ${source}`, { receivers: [{ source }] });
      logger.error("failed", { err: new Error(`inner ${source}`, { cause: new Error(`root ${source}`) }) });
    }
    for (const malformed of [`postgres://zoe:${SECRET}`, `postgres://zoe:%zz${SECRET}@db`, `x?${SECRET}`]) {
      assert.throws(() => parseConnInfo(malformed), (error) => {
        shown.push(JSON.stringify(reportOf(error)));
        return true;
      });
    }
    const log = readFileSync(file, "utf8");
    assert.ok(log.includes("zoe:***@") && log.includes("password=***"), "the sources were logged");
    shown.push(log);
  } finally {
    await walsender.close();
    rmSync(dir, { recursive: true, force: true });
  }
  for (const text of shown) assert.ok(!text.includes(SECRET), text);
});
