import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { clearImmediate, setImmediate } from "node:timers";
import { basebackup } from "../../../../src/pageserver/service/basebackup.ts";
import { Turns } from "../../../../src/pageserver/service/turns.ts";
import { WalHead } from "../../../../src/pageserver/tenant/wal_head.ts";
import {
  mainTimeline,
  openTinyPageServer,
  TINY_TENANT,
  tinyDisk,
} from "../../../harness/tiny_page_server.ts";

describe("a basebackup", () => {
  test("leaves others their turn, however fast it is read", async () => {
    const server = await openTinyPageServer(tinyDisk());
    await server.createTenant(TINY_TENANT);
    const timeline = await mainTimeline(server);
    const { timelines } = server.tenant(TINY_TENANT);
    const boundary = timeline.boundary(null);
    using head = await WalHead.open(timelines, timeline, boundary.lsn);
    let turns = 0;
    let turn = setImmediate(function again() {
      turns++;
      turn = setImmediate(again);
    });
    const turnsBefore: number[] = [];
    for await (const _ of basebackup(timeline, boundary, head)) turnsBefore.push(turns);
    clearImmediate(turn);
    await server.close();
    assert.ok(turnsBefore.length > 2, "it comes in more than one chunk");
    turnsBefore.reduce((before, after) => {
      assert.ok(after > before, `turns before each chunk: ${turnsBefore}`);
      return after;
    });
  });

  test("takes its tenant's turns, a short one while others ask for something", async () => {
    const server = await openTinyPageServer(tinyDisk());
    await server.createTenant(TINY_TENANT);
    const timeline = await mainTimeline(server);
    const boundary = timeline.boundary(null);
    const read = async (othersAsk: boolean): Promise<number> => {
      let [nowMs, rounds] = [0, 0];
      // Pieces take longer than half a slice, so two of them end it.
      const turns = new Turns<string>({
        now: () => nowMs += 0.06,
        afterOthers: (callback) => {
          rounds++;
          setImmediate(callback);
        },
      });
      using other = turns.join("another tenant");
      if (othersAsk) other.end(other.begin());
      using turn = turns.join(TINY_TENANT);
      using head = WalHead.open(server.tenant(TINY_TENANT).timelines, timeline, boundary.lsn);
      for await (const _ of basebackup(timeline, boundary, head, { turn }));
      return rounds;
    };
    const alone = await read(false);
    const shared = await read(true);
    await server.close();
    assert.equal(alone, 0);
    assert.ok(shared >= 4, `${shared} turns`);
  });

  test("leaves no WAL segment open when its client goes away midway", async () => {
    const server = await openTinyPageServer(tinyDisk());
    await server.createTenant(TINY_TENANT);
    const timeline = await mainTimeline(server);
    const { timelines } = server.tenant(TINY_TENANT);
    const boundary = timeline.boundary(null);
    using head = WalHead.open(timelines, timeline, boundary.lsn);
    let [isOpen, wasOpened] = [false, false];
    function* before(): Generator<WalHead> {
      isOpen = wasOpened = true;
      try {
        yield head;
      } finally {
        isOpen = false;
      }
    }
    for await (const _ of basebackup(timeline, boundary, head, { before: before() })) if (isOpen) break;
    await server.close();
    assert.ok(wasOpened, "it had come to the segment");
    assert.ok(!isOpen);
  });
});
