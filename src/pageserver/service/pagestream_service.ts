import { ZenithError } from "../../common/errors.ts";
import type { Lsn } from "../../common/lsn.ts";
import { INVALID_LSN } from "../../common/lsn.ts";
import type { CopyBoth } from "../../pgwire/copy_both.ts";
import type { Session } from "../../pgwire/session.ts";
import { reportOf } from "../../pgwire/sqlstate.ts";
import { BLCKSZ } from "../../postgres/cluster/page_layout.ts";
import {
  decodeRequest,
  encodeErrorResponse,
  encodePagesHeader,
  encodeValueResponse,
  PageRequest,
  pagesResponseBytes,
  REQUEST_DBSIZE,
  REQUEST_EXISTS,
  REQUEST_NBLOCKS,
  REQUEST_PAGES,
  RESPONSE_DBSIZE,
  RESPONSE_EXISTS,
  RESPONSE_HEADER_BYTES,
  RESPONSE_NBLOCKS,
} from "../../protocol/pagestream.ts";
import { KIND_RELATION, relationKey } from "../content/keys.ts";
import { NO_FORK } from "../content/relation_forks.ts";
import type { Timeline } from "../timeline/timeline.ts";

/**
 * Answers page requests on a connection until the client ends it. Requests whose LSN has arrived are answered at once and in
 * order; one that has to wait for its LSN does not hold up those behind it.
 */
export async function servePagestream(
  session: Session,
  timeline: Timeline,
  waitLsnTimeoutMs: number,
): Promise<void> {
  const copy = session.copyBoth();
  const request = new PageRequest();
  await copy.run({
    onData(bytes, off, len) {
      decodeRequest(request, bytes, off, len);
      const { lsn } = request;
      if (lsn !== INVALID_LSN && lsn > timeline.position) {
        answerLater(copy, timeline, { ...request }, waitLsnTimeoutMs);
      } else {
        answer(copy, timeline, request);
      }
      if (copy.congested) {
        copy.pause();
        copy.drained().then(() => copy.resume(), () => {});
      }
    },
  });
}

async function answerLater(
  copy: CopyBoth,
  timeline: Timeline,
  request: PageRequest,
  timeoutMs: number,
): Promise<void> {
  try {
    await timeline.waitFor(request.lsn, timeoutMs);
  } catch (error) {
    if (copy.sending) sendError(copy, request, error);
    return;
  }
  if (copy.sending) answer(copy, timeline, request);
}

function answer(copy: CopyBoth, timeline: Timeline, request: PageRequest): void {
  const lsn = request.lsn === INVALID_LSN ? timeline.lastRecordLsn : request.lsn;
  try {
    timeline.assertPresent();
    switch (request.tag) {
      case REQUEST_PAGES:
        sendPages(copy, timeline, request, lsn);
        break;
      case REQUEST_NBLOCKS: {
        const blocks = blocksOf(timeline, request, lsn);
        if (blocks === NO_FORK) {
          throw new ZenithError("not_found", `${describe(request)} does not exist`);
        }
        sendValue(copy, RESPONSE_NBLOCKS, request, blocks);
        break;
      }
      case REQUEST_EXISTS: {
        const exists = blocksOf(timeline, request, lsn) !== NO_FORK;
        sendValue(copy, RESPONSE_EXISTS, request, exists ? 1 : 0);
        break;
      }
      case REQUEST_DBSIZE:
        sendValue(copy, RESPONSE_DBSIZE, request, databaseBytes(timeline, request, lsn));
        break;
    }
  } catch (error) {
    sendError(copy, request, error);
  }
}

function blocksOf(timeline: Timeline, request: PageRequest, lsn: Lsn): number {
  const slot = timeline.store.slot(relationKey(request.spc, request.db, request.rel, request.fork));
  return timeline.forks.blocksAt(slot, lsn);
}

function databaseBytes(timeline: Timeline, request: PageRequest, lsn: Lsn): number {
  let blocks = 0;
  for (const key of timeline.store.objects({ kind: KIND_RELATION, a: request.spc, b: request.db })) {
    blocks += Math.max(0, timeline.forks.blocksAt(timeline.store.slot(key), lsn));
  }
  return blocks * BLCKSZ;
}

function sendPages(copy: CopyBoth, timeline: Timeline, request: PageRequest, lsn: Lsn): void {
  const { spc, db, rel, fork, blkno, count } = request;
  const slot = timeline.store.slot(relationKey(spc, db, rel, fork));
  const blocks = timeline.forks.blocksAt(slot, lsn);
  if (blkno + count > blocks) {
    throw new ZenithError(
      "out_of_range",
      `${describe(request)} has ${Math.max(0, blocks)} blocks: ${blkno}..${
        blkno + count - 1
      } are beyond its end`,
    );
  }
  const source = { spc, db, rel, fork, slot };
  const pages = pageBuffer(count);
  for (let i = 0; i < count; i++) timeline.reader.readPage(source, blkno + i, lsn, pages, i * BLCKSZ);
  const at = copy.reserve(pagesResponseBytes(count));
  const first = encodePagesHeader(copy.buffer, at, request.requestId, count);
  copy.buffer.set(count * BLCKSZ === pages.length ? pages : pages.subarray(0, count * BLCKSZ), first);
}

/** Pages are rebuilt here first: an error in the middle must not leave half an answer in the stream. */
let buffer = new Uint8Array(BLCKSZ);

function pageBuffer(count: number): Uint8Array {
  if (buffer.length < count * BLCKSZ) buffer = new Uint8Array(count * BLCKSZ);
  return buffer;
}

function sendValue(copy: CopyBoth, tag: number, request: PageRequest, value: number): void {
  const at = copy.reserve(RESPONSE_HEADER_BYTES);
  encodeValueResponse(copy.buffer, at, tag, request.requestId, value);
}

function sendError(copy: CopyBoth, request: PageRequest, error: unknown): void {
  const { sqlstate, message } = reportOf(error);
  copy.send(encodeErrorResponse(request.requestId, sqlstate, message));
}

function describe(request: PageRequest): string {
  return `relation ${request.spc}/${request.db}/${request.rel}, fork ${request.fork},`;
}
