/** Answers the page requests of computes. */
import { assert } from "../../common/assert.ts";
import { ZenithError } from "../../common/errors.ts";
import { unlessAborted } from "../../common/unless_aborted.ts";
import { INVALID_LSN, type Lsn } from "../../common/lsn.ts";
import type { CopyBoth } from "../../pgwire/copy_both.ts";
import { MAX_CONNECTIONS } from "../../pgwire/limits.ts";
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
  REQUEST_WAL,
  RESPONSE_DBSIZE,
  RESPONSE_EXISTS,
  RESPONSE_HEADER_BYTES,
  RESPONSE_NBLOCKS,
  RESPONSE_WAL,
} from "../../protocol/pagestream.ts";
import { AbsentBytes, AbsentOnes } from "../../pagestore/mod.ts";
import { NO_FORK } from "../content/relation_forks.ts";
import type { ForkAt, TimelineView } from "../content/timeline_view.ts";
import type { Timeline } from "../timeline/timeline.ts";
import { type Turn, turnOf } from "./turns.ts";

/**
 * How many requests of one connection may wait for their LSN at a time. A compute has a few tens in
 * flight. Further requests are refused, and the compute asks again a second later. They are refused
 * rather than left unread, because nobody notices when the client of an unread connection leaves.
 */
export const WAITING_REQUESTS_MAX = 256;

/**
 * The limit of waiting requests over all connections. Each takes some hundred bytes and a timer.
 */
const WAITING_REQUESTS_TOTAL_MAX = 1 << 18;
assert(WAITING_REQUESTS_MAX <= WAITING_REQUESTS_TOTAL_MAX, "one connection can have all that it may");

assert(
  WAITING_REQUESTS_MAX * MAX_CONNECTIONS <= WAITING_REQUESTS_TOTAL_MAX,
  "all connections may have as many requests waiting as one may",
);

/** Fills the buffer with WAL from an LSN on, which is a page's boundary. */
export type ReadWal = (lsn: Lsn, into: Uint8Array) => void;

/**
 * Answers page requests on a connection until the client ends it. Requests whose LSN has arrived
 * are answered at once and in order. A request that must wait for its LSN, or for parts of layers
 * to be fetched, does not hold up later ones, and is dropped when its client leaves.
 *
 * @param turn shares the thread with other tenants
 * @param countRequest counts a request that waits; throws when the tenant has too many
 */
export async function servePagestream(
  session: Session,
  timeline: Timeline,
  readWal: ReadWal,
  waitLsnTimeoutMs: number,
  turn: Turn,
  countRequest: () => Disposable,
): Promise<void> {
  const copy = session.copyBoth();
  const request = new PageRequest();
  const left = new AbortController();
  let waiting = 0;
  /** Answers a request after `until`: once its LSN has arrived, or what it reads was fetched. */
  const answerAfter = async (later: PageRequest, until: () => Promise<void>): Promise<void> => {
    if (waiting >= WAITING_REQUESTS_MAX) return sendError(copy, later, tooManyWait());
    waiting++;
    try {
      using _counted = countRequest();
      for (;;) {
        await until();
        let outcome = attempt(later);
        while (outcome === "busy") {
          await turnOf(turn);
          outcome = attempt(later);
        }
        if (outcome === null) return;
        const absent = outcome;
        until = () => absent.arrive(left.signal);
      }
    } catch (error) {
      if (copy.sending) sendError(copy, later, error);
    } finally {
      waiting--;
    }
  };
  /** @returns null when it is answered; what has to be fetched; "busy" before the next turn */
  const attempt = (now: PageRequest): AbsentBytes | "busy" | null => {
    const began = turn.begin();
    if (began < 0) return "busy";
    const absent = copy.sending ? answer(copy, timeline, readWal, now) : null;
    turn.end(began);
    return absent;
  };
  /** @returns false when it has to be tried again at the next turn */
  const tryAnswer = (now: PageRequest): boolean => {
    const outcome = attempt(now);
    if (outcome === "busy") return false;
    if (outcome !== null) void answerAfter({ ...now }, () => outcome.arrive(left.signal));
    return true;
  };
  /** Takes nothing more from the connection until this request had its turn. */
  const answerInTurn = (held: PageRequest): void => {
    copy.pause();
    turn.wait(() => {
      if (!tryAnswer(held)) answerInTurn(held);
      else if (copy.congested) copy.drained().then(() => copy.resume(), () => {});
      else copy.resume();
    });
  };
  try {
    const run = copy.run({
      onData(bytes, off, len) {
        decodeRequest(request, bytes, off, len);
        const { lsn } = request;
        if (lsn === INVALID_LSN || lsn <= timeline.position) {
          if (!tryAnswer(request)) {
            answerInTurn({ ...request });
            return;
          }
        } else {
          const later = { ...request };
          void answerAfter(later, () => timeline.waitFor(lsn, waitLsnTimeoutMs, left.signal));
        }
        if (copy.congested) {
          copy.pause();
          copy.drained().then(() => copy.resume(), () => {});
        }
      },
    });
    await unlessAborted(run, timeline.leaving);
  } finally {
    left.abort(new ZenithError("unavailable", `client ${session.remoteAddress} went away`));
  }
}

function tooManyWait(): ZenithError {
  return new ZenithError(
    "unavailable",
    `${WAITING_REQUESTS_MAX} requests of this connection wait for their LSN, or for layers`,
    {
      hint: "ask again when some of them have been answered",
    },
  );
}

/** @returns what has to be fetched before the request can be answered; null when it was */
function answer(
  copy: CopyBoth,
  timeline: Timeline,
  readWal: ReadWal,
  request: PageRequest,
): AbsentBytes | null {
  try {
    timeline.assertPresent();
    if (request.tag === REQUEST_WAL) {
      sendWal(copy, readWal, request);
      return null;
    }
    const view = timeline.at(request.lsn === INVALID_LSN ? timeline.lastRecordLsn : request.lsn);
    switch (request.tag) {
      case REQUEST_PAGES:
        sendPages(copy, view, request);
        break;
      case REQUEST_NBLOCKS: {
        const { blocks } = forkOf(view, request);
        if (blocks === NO_FORK) {
          throw new ZenithError("not_found", `${describe(request)} does not exist`);
        }
        sendValue(copy, RESPONSE_NBLOCKS, request, blocks);
        break;
      }
      case REQUEST_EXISTS: {
        const exists = forkOf(view, request).blocks !== NO_FORK;
        sendValue(copy, RESPONSE_EXISTS, request, exists ? 1 : 0);
        break;
      }
      case REQUEST_DBSIZE:
        sendValue(copy, RESPONSE_DBSIZE, request, databaseBytes(view, request));
        break;
    }
  } catch (error) {
    if (error instanceof AbsentBytes) return error;
    sendError(copy, request, error);
  }
  return null;
}

function forkOf(view: TimelineView, { spc, db, rel, fork }: PageRequest): ForkAt {
  return view.fork(spc, db, rel, fork);
}

function databaseBytes(view: TimelineView, { spc, db }: PageRequest): number {
  let blocks = 0;
  for (const fork of view.forks({ spc, db })) blocks += fork.blocks;
  return blocks * BLCKSZ;
}

function sendPages(copy: CopyBoth, view: TimelineView, request: PageRequest): void {
  const { blkno, count } = request;
  const source = forkOf(view, request);
  if (blkno + count > source.blocks) {
    throw new ZenithError(
      "out_of_range",
      `${describe(request)} has ${Math.max(0, source.blocks)} blocks: ${blkno}..${
        blkno + count - 1
      } are beyond its end`,
    );
  }
  const pages = pageBuffer(count);
  const absent = new AbsentOnes();
  for (let i = 0; i < count; i++) absent.try(() => view.readPage(source, blkno + i, pages, i * BLCKSZ));
  absent.check();
  const at = copy.reserve(pagesResponseBytes(count));
  const first = encodePagesHeader(copy.buffer, at, request.requestId, count);
  copy.buffer.set(count * BLCKSZ === pages.length ? pages : pages.subarray(0, count * BLCKSZ), first);
}

function sendWal(copy: CopyBoth, readWal: ReadWal, { requestId, lsn, count }: PageRequest): void {
  const pages = pageBuffer(count).subarray(0, count * BLCKSZ);
  readWal(lsn, pages);
  const at = copy.reserve(pagesResponseBytes(count));
  copy.buffer.set(pages, encodePagesHeader(copy.buffer, at, requestId, count, RESPONSE_WAL));
}

/** Pages are rebuilt here first, so that an error midway leaves no half answer in the stream. */
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
