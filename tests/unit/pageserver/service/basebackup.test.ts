import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { clearImmediate, setImmediate } from "node:timers";
import { parseBranchName } from "../../../../src/common/id.ts";
import { unpackBasebackup } from "../../../../src/compute/postgres/data_directory.ts";
import { basebackup } from "../../../../src/pageserver/service/basebackup.ts";
import { parseStartPoint } from "../../../../src/pageserver/tenant/branch_files.ts";
import { Turns } from "../../../../src/pageserver/service/turns.ts";
import { WalHead } from "../../../../src/pageserver/tenant/wal_head.ts";
import { XLOG_BLCKSZ } from "../../../../src/postgres/wal/page_header.ts";
import {
  mainTimeline,
  openTinyPageServer,
  TINY_TENANT,
  tinyDisk,
  walAfter,
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

  test("leaves out what precedes its own WAL, which a compute makes as the page server would", async () => {
    const server = await openTinyPageServer(tinyDisk());
    await server.createTenant(TINY_TENANT);
    const main = await mainTimeline(server);
    const wal = walAfter(main);
    const from = wal.lsn;
    while (wal.bytes.length < 40 * XLOG_BLCKSZ) wal.record({ main: new Uint8Array(500) });
    await main.receive(from, wal.bytes.slice(from - wal.from));
    await main.makeDurable();
    const { branches, timelines } = server.tenant(TINY_TENANT);
    const child = await branches.create(parseBranchName("child"), parseStartPoint("main"));
    const timeline = (await timelines.hold(child.timelineId)).value;
    const boundary = timeline.boundary(null);
    const fetched = async (isOwnOnly: boolean): Promise<{ bytes: number; segment: Buffer }> => {
      const pgdata = mkdtempSync(join(tmpdir(), "zenith-basebackup-"));
      using head = WalHead.openOwn(timeline, boundary.lsn);
      const tar = basebackup(timeline, boundary, head, { content: "lazy", isOwnOnly });
      const { bytes } = await unpackBasebackup(tar, pgdata, undefined, () => {}, "lazy");
      const [name] = readdirSync(join(pgdata, "pg_wal")).filter((file) => file !== "archive_status");
      const segment = readFileSync(join(pgdata, "pg_wal", name!));
      rmSync(pgdata, { recursive: true });
      return { bytes, segment };
    };
    const [whole, own] = [await fetched(false), await fetched(true)];
    await server.close();
    assert.ok(own.segment.length > 16 * XLOG_BLCKSZ, "it begins within the segment");
    assert.ok(own.segment.equals(whole.segment));
    assert.ok(whole.bytes - own.bytes > own.segment.length - 3 * XLOG_BLCKSZ);
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
