import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, test } from "node:test";
import { answerMissedRead } from "../../../../../src/compute/lazy/pages/missed_reads.ts";
import type { MissedRead } from "../../../../../src/compute/lazy/files/fuse_session.ts";
import { KeptPages } from "../../../../../src/compute/lazy/pages/kept_pages.ts";
import { type LazyWal, WalReads } from "../../../../../src/compute/lazy/pages/wal_reads.ts";
import { PageFetcher } from "../../../../../src/compute/lazy/pages/page_fetcher.ts";
import { NOBODY } from "../../../../../src/compute/lazy/pages/prewarmer.ts";
import { parseTenantId, parseTimelineId } from "../../../../../src/common/id.ts";
import { NULL_LOGGER } from "../../../../../src/process/log.ts";
import { lsn } from "../../../../../src/common/lsn.ts";
import type { CopyBoth } from "../../../../../src/pgwire/copy_both.ts";
import { PgServer } from "../../../../../src/pgwire/server.ts";
import type { Session } from "../../../../../src/pgwire/session.ts";
import { pageChecksum, storedPageChecksum } from "../../../../../src/postgres/cluster/page_checksum.ts";
import {
  decodeRequest,
  encodeErrorResponse,
  encodePagesHeader,
  PAGE_BYTES,
  PageRequest,
  pagesResponseBytes,
  REQUEST_PAGES,
  REQUEST_WAL,
  RESPONSE_PAGES,
  RESPONSE_WAL,
} from "../../../../../src/protocol/pagestream.ts";

const BLOCK = PAGE_BYTES;
const UNIT = 4096;
const TENANT = parseTenantId("0123456789abcdef0123456789abcdef");
const TIMELINE = parseTimelineId("fedcba9876543210fedcba9876543210");
const LSN = lsn(0x1500780);

/** Answers when it is told to, with pages full of their block number plus one. */
class PageServer {
  readonly requests: PageRequest[] = [];
  readonly commands: string[] = [];
  readonly server = new PgServer({
    describe: () => null,
    query: (session, sql) => this.#serve(session, sql),
  });
  #copy: CopyBoth | undefined;
  #wake = () => {};

  async #serve(session: Session, sql: string): Promise<void> {
    this.commands.push(sql);
    const copy = session.copyBoth();
    this.#copy = copy;
    await copy.run({
      onData: (bytes, off, len) => {
        const request = new PageRequest();
        decodeRequest(request, bytes, off, len);
        this.requests.push(request);
        this.#wake();
      },
    });
  }

  async untilAsked(count: number): Promise<void> {
    while (this.requests.length < count) {
      await new Promise<void>((resolve) => this.#wake = resolve);
    }
  }

  answer(request: PageRequest): void {
    const copy = this.#copy!;
    const at = copy.reserve(pagesResponseBytes(request.count));
    const tag = request.tag === REQUEST_WAL ? RESPONSE_WAL : RESPONSE_PAGES;
    const first = encodePagesHeader(copy.buffer, at, request.requestId, request.count, tag);
    for (let i = 0; i < request.count; i++) {
      copy.buffer.fill(request.blkno + i + 1, first + i * BLOCK, first + (i + 1) * BLOCK);
    }
  }

  refuse(request: PageRequest, sqlstate: string): void {
    this.#copy!.send(encodeErrorResponse(request.requestId, sqlstate, "not this one"));
  }
}

let pageServer: PageServer;
let port: number;
let fetcher: PageFetcher;
let kept: [inode: number, block: number, firstByte: number][];
let replies: Uint8Array[];
let wakeReply: () => void;

function startFetcher(checksums = false): PageFetcher {
  return new PageFetcher({
    pageServer: { host: "127.0.0.1", port },
    tenant: TENANT,
    timeline: TIMELINE,
    lsn: LSN,
    checksums,
    log: NULL_LOGGER,
    onPage: (inode, block, bytes, at) => kept.push([inode, block, bytes[at]]),
  });
}

beforeEach(async () => {
  pageServer = new PageServer();
  ({ port } = await pageServer.server.listen({ host: "127.0.0.1", port: 0 }));
  kept = [];
  replies = [];
  wakeReply = () => {};
  fetcher = startFetcher();
});

afterEach(async () => {
  fetcher.close();
  await pageServer.server.close();
});

function read(
  inode: number,
  firstUnit: number,
  units: number,
  missing: number[],
  { overlay, isRepeated = true }: { overlay?: Uint8Array; isRepeated?: boolean } = {},
) {
  const miss: MissedRead = {
    unique: [replies.length, 9],
    inode,
    remote: { spc: 1663, db: 5, rel: 16384, fork: 0, firstBlock: 0 },
    offset: firstUnit * UNIT,
    bytes: units * UNIT,
    missing,
    overlay,
    isRepeated,
  };
  answerMissedRead(miss, fetcher, (reply) => {
    replies.push(reply.slice());
    wakeReply();
  });
}

function assertFailed(reply: Uint8Array): void {
  const EIO = 5;
  assert.equal(reply.length, 16);
  assert.equal(new DataView(reply.buffer).getInt32(4, true), -EIO);
}

async function untilReplied(count: number): Promise<void> {
  while (replies.length < count) await new Promise<void>((resolve) => wakeReply = resolve);
}

/** The first byte of each 4 KiB of a reply. */
function units(reply: Uint8Array): number[] {
  return Array.from({ length: (reply.length - 16) / UNIT }, (_, i) => reply[16 + i * UNIT]);
}

describe("a read of pages that are not here", () => {
  test("is answered with what the page server has at the LSN of the start", async () => {
    read(7, 4, 4, [4, 8]);
    await pageServer.untilAsked(1);
    const [request] = pageServer.requests;
    assert.deepEqual(pageServer.commands, [`pagestream ${TENANT} ${TIMELINE}`]);
    assert.deepEqual([request!.lsn, request!.rel, request!.blkno, request!.count], [LSN, 16384, 2, 2]);
    pageServer.answer(request!);
    await untilReplied(1);
    assert.deepEqual(units(replies[0]), [3, 3, 4, 4]);
    const header = new DataView(replies[0].buffer);
    assert.deepEqual([header.getUint32(0, true), header.getInt32(4, true)], [16 + 4 * UNIT, 0]);
    assert.deepEqual([header.getUint32(8, true), header.getUint32(12, true)], [0, 9]);
    assert.deepEqual(kept, [[7, 2, 3], [7, 3, 4]]);
  });

  test("has only those pages kept here that the kernel has evicted, or somebody wants ahead of need", async () => {
    read(7, 0, 2, [0, 2], { isRepeated: false });
    read(7, 4, 2, [4, 6], { isRepeated: false });
    read(7, 4, 2, [4, 6]);
    read(7, 8, 2, [8, 10], { isRepeated: false });
    fetcher.fetch(7, { spc: 1663, db: 5, rel: 16384, fork: 0, firstBlock: 0 }, 4, 1, NOBODY);
    await pageServer.untilAsked(3);
    for (const request of pageServer.requests) pageServer.answer(request);
    await untilReplied(4);
    assert.deepEqual(kept, [[7, 2, 3], [7, 4, 5]]);
  });

  test("does not wait for the answers to others", async () => {
    read(7, 0, 2, [0, 2]);
    read(7, 8, 2, [8, 10]);
    await pageServer.untilAsked(2);
    pageServer.answer(pageServer.requests[1]);
    await untilReplied(1);
    assert.deepEqual(units(replies[0]), [5, 5]);
    pageServer.answer(pageServer.requests[0]);
    await untilReplied(2);
    assert.deepEqual(units(replies[1]), [1, 1]);
  });

  test("shares the pages that are on their way to another reader", async () => {
    read(7, 0, 8, [0, 8]);
    read(7, 2, 8, [2, 10]);
    read(8, 2, 2, [2, 4]);
    await pageServer.untilAsked(3);
    assert.deepEqual(pageServer.requests.map(({ blkno, count }) => [blkno, count]), [[0, 4], [4, 1], [1, 1]]);
    for (const request of pageServer.requests) pageServer.answer(request);
    await untilReplied(3);
    assert.deepEqual(replies.map(units), [[1, 1, 2, 2, 3, 3, 4, 4], [2, 2, 3, 3, 4, 4, 5, 5], [2, 2]]);
    assert.equal(kept.length, 6);
  });

  test("leaves what the overlay has as it is, to half a page", async () => {
    const overlay = new Uint8Array(6 * UNIT).fill(200);
    read(7, 0, 6, [1, 2, 4, 5], { overlay });
    await pageServer.untilAsked(2);
    for (const request of pageServer.requests) pageServer.answer(request);
    await untilReplied(1);
    assert.deepEqual(units(replies[0]), [200, 1, 200, 200, 3, 200]);
  });

  test("is one of at most 1 MiB for the page server", async () => {
    read(7, 0, 256, [0, 256]);
    read(7, 256, 2, [256, 258]);
    await pageServer.untilAsked(2);
    assert.deepEqual(pageServer.requests.map(({ count }) => count), [128, 1]);
  });

  test("waits for a page server that goes away, and asks again when it is back", async () => {
    read(7, 0, 2, [0, 2]);
    await pageServer.untilAsked(1);
    await pageServer.server.close();
    read(7, 4, 2, [4, 6]);
    pageServer = new PageServer();
    await pageServer.server.listen({ host: "127.0.0.1", port });
    await pageServer.untilAsked(2);
    assert.deepEqual(pageServer.requests.map(({ blkno }) => blkno), [0, 2]);
    for (const request of pageServer.requests) pageServer.answer(request);
    await untilReplied(2);
    assert.deepEqual(replies.map(units), [[1, 1], [3, 3]]);
  });

  test("is asked again when the page server could not answer at the time", async () => {
    read(7, 0, 2, [0, 2]);
    await pageServer.untilAsked(1);
    const CANNOT_CONNECT_NOW = "57P03";
    pageServer.refuse(pageServer.requests[0], CANNOT_CONNECT_NOW);
    await pageServer.untilAsked(2);
    pageServer.answer(pageServer.requests[1]);
    await untilReplied(1);
    assert.deepEqual(units(replies[0]), [1, 1]);
  });

  test("fails for every reader when the page server will never have the page", async () => {
    read(7, 0, 2, [0, 2]);
    read(7, 0, 4, [0, 4]);
    await pageServer.untilAsked(2);
    const DATA_CORRUPTED = "XX001";
    pageServer.refuse(pageServer.requests[0], DATA_CORRUPTED);
    pageServer.answer(pageServer.requests[1]);
    await untilReplied(2);
    for (const reply of replies) assertFailed(reply);
    assert.deepEqual(kept, [[7, 1, 2]]);
  });

  test("fails when the compute stops while it waits, and afterwards", async () => {
    read(7, 0, 2, [0, 2]);
    await pageServer.untilAsked(1);
    fetcher.close();
    read(7, 0, 4, [0, 4]);
    await untilReplied(2);
    for (const reply of replies) assertFailed(reply);
    assert.deepEqual(kept, []);
  });

  test("gets pages with checksums in a cluster that has them", async () => {
    fetcher.close();
    fetcher = startFetcher(true);
    read(7, 4, 2, [4, 6]);
    await pageServer.untilAsked(1);
    pageServer.answer(pageServer.requests[0]);
    await untilReplied(1);
    const page = replies[0].slice(16);
    assert.equal(storedPageChecksum(page), pageChecksum(page, 2));
  });
});

describe("a read of WAL that is not here", () => {
  const SEGMENT = 1 << 20;
  const WAL_START = lsn(0x1300000);
  let prepared: number;
  let prepare: LazyWal["prepare"];
  let walReads: WalReads;

  beforeEach(() => {
    prepared = 0;
    prepare = () => Promise.resolve(void prepared++);
    walReads = new WalReads(
      {
        range: { from: WAL_START, to: lsn(WAL_START + SEGMENT), segmentSize: SEGMENT, timelines: [] },
        prepare: (read) => prepare(read),
      },
      fetcher,
      (reply) => {
        replies.push(reply.slice());
        wakeReply();
      },
      NULL_LOGGER,
    );
  });

  function readWal(firstUnit: number): void {
    void walReads.answer({
      unique: [replies.length, 9],
      inode: 7,
      remote: { walStart: WAL_START },
      offset: firstUnit * UNIT,
      bytes: 2 * UNIT,
      missing: [firstUnit, firstUnit + 2],
      overlay: undefined,
      isRepeated: false,
    });
  }

  test("is one of the WAL's own position, after what has to be done before", async () => {
    prepare = async (read) => {
      const piece = await read(lsn(WAL_START + SEGMENT / 2), 4 * BLOCK);
      assert.equal(piece.length, 4 * BLOCK);
      prepared++;
    };
    readWal(4);
    readWal(8);
    await pageServer.untilAsked(1);
    const [first] = pageServer.requests;
    assert.deepEqual([first!.tag, first!.lsn, first!.count], [REQUEST_WAL, WAL_START + SEGMENT / 2, 4]);
    assert.equal(replies.length, 0);
    pageServer.answer(first!);
    await pageServer.untilAsked(3);
    assert.deepEqual(
      pageServer.requests.slice(1).map(({ lsn, count }) => [lsn, count]),
      [[WAL_START + 2 * BLOCK, 1], [WAL_START + 4 * BLOCK, 1]],
    );
    for (const request of pageServer.requests.slice(1)) pageServer.answer(request);
    await untilReplied(2);
    assert.deepEqual(replies.map((reply) => reply.length), [16 + BLOCK, 16 + BLOCK]);
    assert.equal(prepared, 1);
  });

  test("fails when that could not be done, and tries again at the next one", async () => {
    prepare = () => Promise.reject(new Error("not now"));
    readWal(0);
    await untilReplied(1);
    assertFailed(replies[0]);
    prepare = () => Promise.resolve(void prepared++);
    readWal(0);
    await pageServer.untilAsked(1);
    pageServer.answer(pageServer.requests[0]);
    await untilReplied(2);
    assert.deepEqual([replies[1].length, prepared], [16 + BLOCK, 1]);
  });

  test("fails while the page server is away, and is not asked for again", async () => {
    readWal(0);
    read(7, 4, 2, [4, 6]);
    await pageServer.untilAsked(2);
    await pageServer.server.close();
    await untilReplied(1);
    assertFailed(replies[0]);
    readWal(0);
    await untilReplied(2);
    assertFailed(replies[1]);
    pageServer = new PageServer();
    await pageServer.server.listen({ host: "127.0.0.1", port });
    await pageServer.untilAsked(1);
    assert.deepEqual(pageServer.requests.map(({ tag }) => tag), [REQUEST_PAGES]);
    readWal(0);
    await pageServer.untilAsked(2);
    for (const request of pageServer.requests) pageServer.answer(request);
    await untilReplied(4);
    assert.deepEqual(replies.slice(2).map((reply) => reply.length), [16 + BLOCK, 16 + BLOCK]);
  });

  test("fails when the page server can't answer it, for whatever reason", async () => {
    readWal(0);
    await pageServer.untilAsked(1);
    const CANNOT_CONNECT_NOW = "57P03";
    pageServer.refuse(pageServer.requests[0], CANNOT_CONNECT_NOW);
    await untilReplied(1);
    assertFailed(replies[0]);
  });
});

describe("pages on their way to the overlay", () => {
  test("arrive in order, through shared memory", () => {
    const ring = new KeptPages();
    const other = new KeptPages(ring.buffer);
    const page = new Uint8Array(BLOCK).fill(4);
    assert(ring.offer(2 ** 40, 131071, page, 0));
    const got: [number, number, number][] = [];
    const sink = {
      keepPage: (inode: number, block: number, bytes: Uint8Array, at: number) => {
        got.push([inode, block, bytes[at + BLOCK - 1]]);
      },
    };
    other.drain(sink);
    other.drain(sink);
    assert.deepEqual(got, [[2 ** 40, 131071, 4]]);
  });

  test("are left out, not waited with, when nobody takes them", () => {
    const ring = new KeptPages(undefined, 2);
    const other = new KeptPages(ring.buffer);
    const page = new Uint8Array(BLOCK);
    assert.deepEqual([0, 1, 2].map((block) => ring.offer(1, block, page, 0)), [true, true, false]);
    const blocks: number[] = [];
    other.drain({ keepPage: (_inode, block) => void blocks.push(block) });
    assert.deepEqual(blocks, [0, 1]);
    assert(ring.offer(1, 3, page, 0));
  });
});
