import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, test } from "node:test";
import { ZenithError } from "../../../../../src/common/errors.ts";
import { parseTenantId, parseTimelineId } from "../../../../../src/common/id.ts";
import { NULL_LOGGER } from "../../../../../src/process/log.ts";
import { lsn } from "../../../../../src/common/lsn.ts";
import { keepLsnLeased } from "../../../../../src/compute/lazy/pages/lsn_lease.ts";
import { PgServer } from "../../../../../src/pgwire/server.ts";

const TENANT = parseTenantId("0123456789abcdef0123456789abcdef");
const TIMELINE = parseTimelineId("fedcba9876543210fedcba9876543210");
const COLUMNS = [{ name: "result", type: "json" }] as const;

let commands: string[];
let answer: () => string;
let server: PgServer;
let port: number;
let stopping: AbortController;
let asked: () => void;

beforeEach(async () => {
  commands = [];
  answer = () => '{"lsn": "0/1500780", "expires_at": "2030-01-01T00:00:00Z"}';
  asked = () => {};
  server = new PgServer({
    describe: () => COLUMNS,
    async query(session, sql) {
      commands.push(sql);
      asked();
      session.sendRows(COLUMNS, [[answer()]]);
    },
  });
  ({ port } = await server.listen({ host: "127.0.0.1", port: 0 }));
  stopping = new AbortController();
});
afterEach(async () => {
  stopping.abort();
  await server.close();
});

/** Keeps the lease, and resolves with why it was lost, if it is; else when it is told to stop. */
function keep(renewMs?: number): Promise<ZenithError | undefined> {
  let lost: ZenithError | undefined;
  return keepLsnLeased({
    pageServer: { host: "127.0.0.1", port },
    tenant: TENANT,
    timeline: TIMELINE,
    lsn: lsn(0x1500780),
    log: NULL_LOGGER,
    onLost: (error) => lost = error,
    ...(renewMs === undefined ? {} : { renewMs }),
  }, stopping.signal).then(() => lost);
}

function untilAsked(count: number): Promise<void> {
  return new Promise((resolve) => {
    asked = () => {
      if (commands.length >= count) resolve();
    };
  });
}

describe("the lease on the LSN that pages are read at", () => {
  test("is taken at once and renewed until the compute stops", async () => {
    const three = untilAsked(3);
    const keeping = keep(5);
    await three;
    stopping.abort();
    assert.equal(await keeping, undefined);
    const [, holder] = /^lease_lsn \S+ \S+ 0\/1500780 1h holder=([0-9a-f]{32})$/.exec(commands[0]!) ?? [];
    assert.ok(holder !== undefined, commands[0]);
    assert.equal(commands[1], commands[0]);
    assert.equal(commands.at(-1), `lease_release ${TENANT} ${TIMELINE} 0/1500780 ${holder}`);
  });

  test("is nothing that a stop waits for when the page server is gone", async () => {
    const once = untilAsked(1);
    const keeping = keep();
    await once;
    await server.close();
    stopping.abort();
    assert.equal(await keeping, undefined);
  });

  test("is tried again when the page server fails", async () => {
    let failures = 0;
    answer = () => {
      failures++;
      throw new ZenithError(failures === 1 ? "io" : "unavailable", "not now");
    };
    const three = untilAsked(3);
    const keeping = keep(5);
    await three;
    stopping.abort();
    assert.equal(await keeping, undefined);
  });

  test("is lost when the page server has given up that history", async () => {
    answer = () => {
      throw new ZenithError("out_of_range", "LSN 0/1500780 was given up");
    };
    assert.match(String(await keep()), /given up/);
    assert.equal(commands.length, 1);
  });

  test("is lost when the page server holds another LSN instead", async () => {
    answer = () => '{"lsn": "0/1500700", "expires_at": "2030-01-01T00:00:00Z"}';
    assert.match(String(await keep()), /0\/1500780.*0\/1500700/);
  });
});
