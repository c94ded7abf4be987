/**
 * Fetches pages and WAL from the page server, pipelined over one connection. It retries for as long
 * as that takes. Only WAL fails while the page server is away: who reads that can come again later.
 */
import { assert } from "../../../common/assert.ts";
import { errorMessage, ZenithError } from "../../../common/errors.ts";
import { formatHostPort } from "../../../common/host_port.ts";
import type { TenantId, TimelineId } from "../../../common/id.ts";
import type { Logger } from "../../../process/log.ts";
import { formatLsn, type Lsn } from "../../../common/lsn.ts";
import { sleep } from "../../../common/sleep.ts";
import type { CopyBoth } from "../../../pgwire/copy_both.ts";
import { kindOfSqlstate } from "../../../pgwire/sqlstate.ts";
import { setPageChecksum } from "../../../postgres/cluster/page_checksum.ts";
import { BLCKSZ } from "../../../postgres/cluster/page_layout.ts";
import {
  decodeResponse,
  encodeRequest,
  PageRequest,
  PageResponse,
  PAGES_MAX_COUNT,
  REQUEST_BYTES,
  REQUEST_PAGES,
  REQUEST_WAL,
  RESPONSE_ERROR,
  RESPONSE_PAGES,
  RESPONSE_WAL,
  responseErrorMessage,
} from "../../../protocol/pagestream.ts";
import type { RemoteFile, RemoteRelation } from "../files/inode.ts";
import { connectServer, type ServerAddress } from "../../../protocol/connect.ts";
import { PAGE_SERVER } from "../../../protocol/management.ts";
import { formatCommand } from "../../../protocol/operation.ts";
import { COMPUTE_NAME } from "../../../protocol/wal_connection.ts";

export interface PageFetcherOptions {
  readonly pageServer: ServerAddress;
  readonly tenant: TenantId;
  readonly timeline: TimelineId;
  /** The LSN at which pages are read. */
  readonly lsn: Lsn;
  /** Whether the cluster's pages have checksums. The page server's pages do not. */
  readonly checksums: boolean;
  readonly log: Logger;
  /** Called when reads begin to wait for a page server that is away, and when they no longer do. */
  readonly onLost?: (lost: boolean) => void;
  /**
   * Receives every block that arrives for a waiter that {@link PageWaiter.keeps} it, once:
   * `bytes[at, at + BLCKSZ)`, which is overwritten after the call.
   */
  readonly onPage: (inode: number, block: number, bytes: Uint8Array, at: number) => void;
}

/** The receiver of requested blocks. */
export interface PageWaiter {
  /** Whether the blocks are to be kept here, because they will be needed again. */
  readonly keeps: boolean;
  /**
   * Receives blocks [block, block + count) of the file, at `bytes[at..]`, which is overwritten
   * after the call. Called once per fetch.
   */
  deliver(block: number, count: number, bytes: Uint8Array, at: number): void;
  /** Reports that the page server can't deliver the blocks, now or later. Called once per fetch. */
  fail(error: ZenithError): void;
}

interface Fetch {
  readonly id: number;
  readonly inode: number;
  readonly remote: RemoteFile;
  /** The first block, counted from the start of the file. */
  readonly block: number;
  readonly count: number;
  readonly waiters: PageWaiter[];
}

const RETRY_FIRST_MS = 50;
const RETRY_LAST_MS = 1_000;

/** More blocks than a file has. Used to combine an inode and a block into one number. */
const BLOCKS_PER_INODE = 1 << 18;

/** What a request for WAL has in these fields. */
const NO_RELATION: RemoteRelation = { spc: 0, db: 0, rel: 0, fork: 0, firstBlock: 0 };

export class PageFetcher {
  readonly #options: PageFetcherOptions;
  readonly #request = new PageRequest();
  readonly #response = new PageResponse();
  /** All unanswered fetches, in the order of the requests. */
  readonly #fetches = new Map<number, Fetch>();
  /** The fetch of each block that is under way. */
  readonly #blocks = new Map<number, Fetch>();
  readonly #closing = new AbortController();
  #copy: CopyBoth | undefined;
  /** Called when nothing is under way any more. */
  readonly #whenIdle: (() => void)[] = [];
  #nextId = 1;
  #lost = false;

  /** Connects in the background. Fetches that are requested before that wait. */
  constructor(options: PageFetcherOptions) {
    this.#options = options;
    this.#stayConnected();
  }

  /**
   * Requests blocks. Blocks that are already under way for another waiter are not requested again.
   *
   * @returns how many times `waiter` will be called
   */
  fetch(inode: number, remote: RemoteFile, block: number, count: number, waiter: PageWaiter): number {
    let calls = 0;
    let joined: Fetch | undefined;
    const end = block + count;
    for (let at = block; at < end;) {
      const running = this.#blocks.get(inode * BLOCKS_PER_INODE + at);
      if (running !== undefined) {
        if (running !== joined) {
          running.waiters.push(waiter);
          calls++;
        }
        joined = running;
        at++;
        continue;
      }
      let runEnd = at + 1;
      const limit = Math.min(end, at + PAGES_MAX_COUNT);
      while (runEnd < limit && !this.#blocks.has(inode * BLOCKS_PER_INODE + runEnd)) runEnd++;
      this.#start(inode, remote, at, runEnd - at, waiter);
      calls++;
      at = runEnd;
    }
    return calls;
  }

  /** Resolves when no fetch is under way. */
  whenIdle(): Promise<void> {
    if (this.#fetches.size === 0) return Promise.resolve();
    return new Promise((resolve) => this.#whenIdle.push(resolve));
  }

  /**
   * Closes the connection. Outstanding requests fail, and so do all later ones: a process that
   * waits in the kernel for an answer can't even be killed.
   */
  close(): void {
    const reason = new ZenithError("unavailable", "the compute is stopping");
    this.#closing.abort(reason);
    for (const fetch of [...this.#fetches.values()]) this.#fail(fetch, reason);
  }

  #start(inode: number, remote: RemoteFile, block: number, count: number, waiter: PageWaiter): void {
    const id = this.#nextId;
    this.#nextId = (id + 1) >>> 0;
    assert(!this.#fetches.has(id), "request ids have run out");
    const fetch: Fetch = { id, inode, remote, block, count, waiters: [waiter] };
    this.#fetches.set(id, fetch);
    for (let i = 0; i < count; i++) this.#blocks.set(inode * BLOCKS_PER_INODE + block + i, fetch);
    const reason = this.#closing.signal.aborted ? this.#closing.signal.reason : this.#awayFor(remote);
    // Fail it later, because the waiter doesn't know yet how many answers it will get.
    if (reason !== undefined) queueMicrotask(() => this.#fail(fetch, reason));
    else if (this.#copy !== undefined) this.#send(this.#copy, fetch);
  }

  #send(copy: CopyBoth, { id, remote, block, count }: Fetch): void {
    const request = this.#request;
    const wal = "walStart" in remote ? remote : null;
    const { spc, db, rel, fork, firstBlock } = "walStart" in remote ? NO_RELATION : remote;
    request.tag = wal === null ? REQUEST_PAGES : REQUEST_WAL;
    request.requestId = id;
    request.lsn = wal === null ? this.#options.lsn : (wal.walStart + block * BLCKSZ) as Lsn;
    request.spc = spc;
    request.db = db;
    request.rel = rel;
    request.fork = fork;
    request.blkno = wal === null ? firstBlock + block : 0;
    request.count = count;
    const at = copy.reserve(REQUEST_BYTES);
    encodeRequest(copy.buffer, at, request);
  }

  async #stayConnected(): Promise<void> {
    const { signal } = this.#closing;
    let pauseMs = RETRY_FIRST_MS;
    while (!signal.aborted) {
      let reason: unknown = new ZenithError("unavailable", "it ended the stream");
      try {
        await this.#serveConnection(() => pauseMs = RETRY_FIRST_MS);
      } catch (error) {
        reason = error;
      }
      this.#copy = undefined;
      if (signal.aborted) return;
      this.#reportLost(reason);
      for (const fetch of [...this.#fetches.values()]) {
        const away = this.#awayFor(fetch.remote);
        if (away !== undefined) this.#fail(fetch, away);
      }
      await sleep(pauseMs, signal);
      pauseMs = Math.min(2 * pauseMs, RETRY_LAST_MS);
    }
  }

  /** Resolves or rejects when the connection has ended. */
  async #serveConnection(connected: () => void): Promise<void> {
    const { pageServer, tenant, timeline, log } = this.#options;
    const client = await connectServer("page server", pageServer, {
      applicationName: COMPUTE_NAME,
      signal: this.#closing.signal,
    });
    try {
      const copy = await client.copyBoth(formatCommand(PAGE_SERVER.pagestream, { tenant, timeline }));
      connected();
      if (this.#lost) {
        log.info("the page server is back");
        this.#lost = false;
        this.#options.onLost?.(false);
      }
      this.#copy = copy;
      for (const fetch of this.#fetches.values()) this.#send(copy, fetch);
      await copy.run({ onData: (bytes, off, len) => this.#onResponse(bytes, off, len) });
    } finally {
      client.destroy();
    }
  }

  #reportLost(error: unknown): void {
    if (this.#lost) return;
    this.#lost = true;
    this.#options.onLost?.(true);
    const { pageServer, log } = this.#options;
    log.warn(
      `no connection to the page server at ${
        formatHostPort(pageServer)
      }; reads of pages that are not here wait: ${errorMessage(error)}`,
    );
  }

  /** Why a file can't be read while the page server is away. Undefined when its readers wait. */
  #awayFor(remote: RemoteFile): ZenithError | undefined {
    if (!this.#lost || !("walStart" in remote)) return undefined;
    return new ZenithError("unavailable", `no connection to the page server, which has ${describe(remote)}`);
  }

  #onResponse(bytes: Uint8Array, off: number, len: number): void {
    const response = this.#response;
    decodeResponse(response, bytes, off, len);
    const fetch = this.#fetches.get(response.requestId);
    if (fetch === undefined) {
      throw new ZenithError("protocol", `pagestream: an answer to request ${response.requestId}, never made`);
    }
    if (response.tag === RESPONSE_ERROR) {
      this.#onError(fetch, kindOfSqlstate(response.sqlstate), responseErrorMessage(response, bytes));
      return;
    }
    const expected = "walStart" in fetch.remote ? RESPONSE_WAL : RESPONSE_PAGES;
    if (response.tag !== expected || response.value !== fetch.count) {
      throw new ZenithError(
        "protocol",
        `pagestream: ${response.value} pages with tag ${response.tag}, asked for ${fetch.count}`,
      );
    }
    this.#finish(fetch);
    const { inode, block, count, remote } = fetch;
    const { checksums, onPage } = this.#options;
    const keeps = fetch.waiters.some((waiter) => waiter.keeps);
    for (let i = 0; i < count; i++) {
      const at = response.off + i * BLCKSZ;
      if (checksums && !("walStart" in remote)) setPageChecksum(bytes, remote.firstBlock + block + i, at);
      if (keeps) onPage(inode, block + i, bytes, at);
    }
    for (const waiter of fetch.waiters) waiter.deliver(block, count, bytes, response.off);
  }

  #onError(fetch: Fetch, kind: ZenithError["kind"], message: string): void {
    const { remote, block, count } = fetch;
    const isPassing = kind === "unavailable" || kind === "timeout" || kind === "limit_exceeded";
    if (isPassing && !("walStart" in remote)) {
      setTimeout(() => {
        if (this.#copy !== undefined && this.#fetches.has(fetch.id)) this.#send(this.#copy, fetch);
      }, RETRY_LAST_MS);
      return;
    }
    const first = block + ("walStart" in remote ? 0 : remote.firstBlock);
    const what = `blocks ${first}..${first + count - 1} of ${describe(remote)}`;
    const error = new ZenithError(kind, `${what} can't be read: ${message}`);
    this.#options.log.error(error.message);
    this.#fail(fetch, error);
  }

  #fail(fetch: Fetch, error: ZenithError): void {
    this.#finish(fetch);
    for (const waiter of fetch.waiters) waiter.fail(error);
  }

  #finish(fetch: Fetch): void {
    this.#fetches.delete(fetch.id);
    for (let i = 0; i < fetch.count; i++) {
      this.#blocks.delete(fetch.inode * BLOCKS_PER_INODE + fetch.block + i);
    }
    if (this.#fetches.size === 0) { for (const idle of this.#whenIdle.splice(0)) idle(); }
  }
}

function describe(remote: RemoteFile): string {
  return "walStart" in remote
    ? `the WAL segment at ${formatLsn(remote.walStart)}`
    : `relation ${remote.spc}/${remote.db}/${remote.rel}, fork ${remote.fork},`;
}
