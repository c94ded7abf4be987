import assert from "node:assert/strict";
import { test } from "node:test";
import type { Lsn } from "../../../../src/common/lsn.ts";
import { servePagestream } from "../../../../src/pageserver/service/pagestream_service.ts";
import { Turns } from "../../../../src/pageserver/service/turns.ts";
import type { Timeline } from "../../../../src/pageserver/timeline/timeline.ts";
import { PgClient } from "../../../../src/pgwire/client.ts";
import { PgServer } from "../../../../src/pgwire/server.ts";
import {
  encodeRequest,
  PageRequest,
  REQUEST_BYTES,
  REQUEST_NBLOCKS,
} from "../../../../src/protocol/pagestream.ts";

const END = 0x1000 as Lsn;
const FLOOD_CONNECTIONS = 8;
const FLOOD_REQUESTS = 500;
const OWN_REQUESTS = 50;

/**
 * What may be answered of the flood for each of the other tenant's requests: half of what stands
 * before it. Slices and rounds of the event loop make some tens of it on Bun, hundreds on Deno.
 */
const MOST_PER_REQUEST = FLOOD_CONNECTIONS * FLOOD_REQUESTS / 2;

const readNoWal = () => assert.fail("nobody asks for WAL");

test("a tenant that floods many connections does not keep another one waiting", async () => {
  let answered = 0;
  /** Every answer takes 20 µs, and counts. */
  const timelineOf = (tenant: string) =>
    ({
      position: END,
      leaving: new AbortController().signal,
      assertPresent() {},
      at() {
        const until = performance.now() + 0.02;
        while (performance.now() < until);
        if (tenant === "flood") answered++;
        return { fork: () => ({ blocks: 1 }) };
      },
    }) as unknown as Timeline;
  const turns = new Turns<string>();
  const server = new PgServer({
    describe: () => null,
    async query(session, sql) {
      const tenant = sql.split(" ")[1]!;
      using turn = turns.join(tenant);
      const counted = { [Symbol.dispose]() {} };
      await servePagestream(session, timelineOf(tenant), readNoWal, 60_000, turn, () => counted);
    },
  });
  const address = await server.listen({ host: "127.0.0.1", port: 0 });
  const request = new PageRequest();
  Object.assign(request, { tag: REQUEST_NBLOCKS, lsn: END });
  const bytes = new Uint8Array(REQUEST_BYTES);
  encodeRequest(bytes, 0, request);

  /** Opens a stream that tells of each answer. */
  const open = async (tenant: string, onAnswer: () => void) => {
    const client = await PgClient.connect({ ...address, user: "zenith" });
    const copy = await client.copyBoth(`pagestream ${tenant}`);
    const run = copy.run({ onData: onAnswer });
    return { client, send: () => copy.send(bytes), close: () => (copy.end(), run) };
  };
  let isOver = false;
  let all!: () => void;
  const flooded = new Promise<void>((resolve) => all = resolve);
  let outstanding = FLOOD_CONNECTIONS * FLOOD_REQUESTS;
  const flood: Awaited<ReturnType<typeof open>>[] = [];
  for (let i = 0; i < FLOOD_CONNECTIONS; i++) {
    flood.push(
      await open("flood", () => {
        // Each answer is followed by another request, until the other tenant is done.
        if (!isOver) flood[i]!.send();
        else if (--outstanding === 0) all();
      }),
    );
  }
  let next!: () => void;
  const own = await open("own", () => next());
  for (const { send } of flood) for (let i = 0; i < FLOOD_REQUESTS; i++) send();
  let most = 0;
  for (let i = 0; i < OWN_REQUESTS; i++) {
    const before = answered;
    const answer = new Promise<void>((resolve) => next = resolve);
    own.send();
    await answer;
    most = Math.max(most, answered - before);
  }
  isOver = true;
  assert.ok(answered > 0, "the flood goes on meanwhile");
  assert.ok(most <= MOST_PER_REQUEST, String(most));
  await flooded;
  for (const stream of [...flood, own]) {
    await stream.close();
    stream.client.destroy();
  }
  await server.close();
});
