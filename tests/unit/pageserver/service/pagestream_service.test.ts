import assert from "node:assert/strict";
import { test } from "node:test";
import type { Lsn } from "../../../../src/common/lsn.ts";
import {
  servePagestream,
  WAITING_REQUESTS_MAX,
} from "../../../../src/pageserver/service/pagestream_service.ts";
import type { Timeline } from "../../../../src/pageserver/timeline/timeline.ts";
import { Turns } from "../../../../src/pageserver/service/turns.ts";
import { LsnWaiters } from "../../../../src/pageserver/timeline/waiters.ts";
import { PgClient } from "../../../../src/pgwire/client.ts";
import { PgServer } from "../../../../src/pgwire/server.ts";
import {
  decodeResponse,
  encodeRequest,
  PageRequest,
  PageResponse,
  REQUEST_BYTES,
  REQUEST_NBLOCKS,
  RESPONSE_ERROR,
  responseErrorMessage,
} from "../../../../src/protocol/pagestream.ts";

const END = 0x1000 as Lsn;
const FUTURE = 0x2000 as Lsn;

const readNoWal = () => assert.fail("nobody asks for WAL");

test("60,000 requests for the future cost little: most are refused, and none outlives its client", async () => {
  const waiters = new LsnWaiters();
  // The part of a timeline that requests for its future meet.
  const timeline = {
    position: END,
    leaving: new AbortController().signal,
    waitFor: (lsn: Lsn, timeoutMs: number, signal?: AbortSignal) =>
      waiters.wait(lsn, timeoutMs, () => "the timeline", signal),
  } as unknown as Timeline;
  using turn = new Turns<string>().join("the tenant");
  const counted = { [Symbol.dispose]() {} };
  let ended!: () => void;
  const served = new Promise<void>((resolve) => (ended = resolve));
  const server = new PgServer({
    describe: () => null,
    query: (session) => {
      return servePagestream(session, timeline, readNoWal, 60_000, turn, () => counted).finally(ended);
    },
  });
  const address = await server.listen({ host: "127.0.0.1", port: 0 });
  const client = await PgClient.connect({ ...address, user: "zenith" });
  const copy = await client.copyBoth("pagestream");
  const count = 60_000;
  const messages: string[] = [];
  let refused!: () => void;
  const allRefused = new Promise<void>((resolve) => (refused = resolve));
  const response = new PageResponse();
  const run = copy.run({
    onData(bytes, off, len) {
      decodeResponse(response, bytes, off, len);
      assert.equal(response.tag, RESPONSE_ERROR);
      messages.push(responseErrorMessage(response, bytes));
      if (messages.length === count - WAITING_REQUESTS_MAX) refused();
    },
  });
  const request = new PageRequest();
  request.tag = REQUEST_NBLOCKS;
  request.lsn = FUTURE;
  for (let i = 0; i < count; i++) {
    request.requestId = i;
    const at = copy.reserve(REQUEST_BYTES);
    encodeRequest(copy.buffer, at, request);
  }
  await allRefused;
  assert.match(messages[0], /256 requests of this connection wait for their LSN/);
  assert.equal(waiters.size, WAITING_REQUESTS_MAX);
  client.destroy();
  await run.catch(() => {});
  await served;
  assert.equal(waiters.size, 0);
  await server.close();
});
