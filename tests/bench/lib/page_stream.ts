/** A client of `pagestream` for benchmarks. */
import type { Lsn } from "../../../src/common/lsn.ts";
import type { PgClient } from "../../../src/pgwire/client.ts";
import type { CopyBoth } from "../../../src/pgwire/copy_both.ts";
import {
  decodeResponse,
  encodeRequest,
  PageRequest,
  PageResponse,
  REQUEST_BYTES,
  REQUEST_EXISTS,
  REQUEST_PAGES,
  RESPONSE_ERROR,
  responseErrorMessage,
} from "../../../src/protocol/pagestream.ts";
import type { BenchPageServer } from "./page_server.ts";
import type { Driver } from "./round_trips.ts";

/** pg_default, src/include/catalog/pg_tablespace.dat. */
export const DEFAULT_TABLESPACE = 1663;

/** A relation as a request names it. */
export interface BenchRelation {
  readonly spc: number;
  readonly db: number;
  readonly rel: number;
}

/** pg_class of template1: any relation would do. */
const SOME_RELATION: BenchRelation = { spc: DEFAULT_TABLESPACE, db: 1, rel: 1259 };

export class PageStream implements AsyncDisposable {
  /** Filled in by the caller before {@link send}. */
  readonly request = new PageRequest();
  /** Called for each response, which is good until the call returns. */
  onResponse: (response: PageResponse, bytes: Uint8Array) => void = () => {};
  readonly #client: PgClient;
  readonly #copy: CopyBoth;
  readonly #ended: Promise<void>;
  readonly #encoded = new Uint8Array(REQUEST_BYTES);
  readonly #response = new PageResponse();

  private constructor(client: PgClient, copy: CopyBoth) {
    this.#client = client;
    this.#copy = copy;
    this.#ended = copy.run({
      onData: (bytes, off, len) => {
        const response = this.#response;
        decodeResponse(response, bytes, off, len);
        if (response.tag === RESPONSE_ERROR) throw new Error(responseErrorMessage(response, bytes));
        this.onResponse(response, bytes);
      },
    });
    this.#ended.catch(() => {});
  }

  static async open(
    server: Pick<BenchPageServer, "connect">,
    { tenant, timeline }: { readonly tenant: string; readonly timeline: string },
  ): Promise<PageStream> {
    const client = await server.connect();
    return new PageStream(client, await client.copyBoth(`pagestream ${tenant} ${timeline}`));
  }

  send(): void {
    encodeRequest(this.#encoded, 0, this.request);
    this.#copy.send(this.#encoded);
  }

  /** Reads the relation's pages in an order that no read-ahead would guess, round and round. */
  reader({ spc, db, rel }: BenchRelation, pages: number, lsn: Lsn): Driver {
    const driver: Driver = {
      onReply: () => {},
      send: (i) => {
        this.request.blkno = (i * 7) % pages;
        this.send();
      },
    };
    Object.assign(this.request, { spc, db, rel, tag: REQUEST_PAGES, lsn, fork: 0, count: 1 });
    this.onResponse = () => driver.onReply();
    return driver;
  }

  /** What `run` resolves with; fails with the server's error if that comes first. */
  orFail<T>(run: Promise<T>): Promise<T> {
    return Promise.race([run, this.#ended.then(() => Promise.reject(new Error("the page server hung up")))]);
  }

  async untilReadable(lsn: Lsn): Promise<void> {
    Object.assign(this.request, SOME_RELATION, { tag: REQUEST_EXISTS, lsn });
    await this.orFail(
      new Promise<void>((resolve) => {
        this.onResponse = () => resolve();
        this.send();
      }),
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#copy.end();
    await this.#ended.catch(() => {});
    await this.#client.close();
  }
}
