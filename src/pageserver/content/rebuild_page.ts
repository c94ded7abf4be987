/**
 * Rebuilds a page of a relation from a chain of its versions: an image, or a record that creates
 * one, and the records after it.
 */
import { assert } from "../../common/assert.ts";
import { errorMessage, ZenithError } from "../../common/errors.ts";
import { formatLsn, type Lsn } from "../../common/lsn.ts";
import { type RebuiltValue, type Reconstruct, SIZE_BLOCK, type ValueChain } from "../../pagestore/mod.ts";
import { BLCKSZ } from "../../postgres/cluster/page_layout.ts";
import { applyRecordTo, finishPage, movePageLsn, startPage } from "../../postgres/redo/reconstruct.ts";
import type { PgVersion } from "../../postgres/versions/pg_version.ts";
import { VISIBILITYMAP_FORKNUM } from "../../postgres/cluster/relfile.ts";
import { isRecordTag, KIND_RELATION, TAG_BYTES, TAG_RECORD_MOVING_LSN } from "./keys.ts";

/** One fork of one relation. */
export interface RelationBlocks {
  readonly spc: number;
  readonly db: number;
  readonly rel: number;
  readonly fork: number;
}

/** The block that is being rebuilt, for redo. Reused for every page. */
const target = { spcNode: 0, dbNode: 0, relNode: 0, fork: 0, blkno: 0 };

/**
 * Starts a page from the oldest value of the chain.
 *
 * @returns the next value to apply
 * @throws {ZenithError} `corrupt_data` when the chain has no beginning
 */
export function applyOldest(chain: ValueChain, source: RelationBlocks, block: number): number {
  const oldest = chain.count - 1;
  if (chain.tag[oldest] === TAG_BYTES) {
    if (chain.len[oldest] === 0) startPage(null);
    else startPage(chain.bytes[oldest], chain.off[oldest]);
    return oldest - 1;
  }
  // Postgres creates visibility map pages without logging it. They begin as zeros.
  if (!chain.complete && source.fork !== VISIBILITYMAP_FORKNUM) {
    throw new ZenithError(
      "corrupt_data",
      `${describe(source, block)} has no beginning: its oldest version, of ${
        formatLsn(chain.lsn[oldest] as Lsn)
      }, is a change of something that is not there`,
    );
  }
  startPage(null);
  return oldest;
}

/**
 * Applies the chain's values from number `from` down to the newest.
 *
 * @throws {ZenithError} `corrupt_data` when one can't be applied
 */
export function applyRecords(
  pg: PgVersion,
  chain: ValueChain,
  source: RelationBlocks,
  block: number,
  from: number,
): void {
  target.spcNode = source.spc;
  target.dbNode = source.db;
  target.relNode = source.rel;
  target.fork = source.fork;
  target.blkno = block;
  for (let i = from; i >= 0; i--) {
    assert(isRecordTag(chain.tag[i]), "what follows a page's first version are WAL records");
    try {
      applyRecordTo(pg, target, chain.bytes[i], chain.off[i], chain.len[i], chain.lsn[i]);
      if (chain.tag[i] === TAG_RECORD_MOVING_LSN) movePageLsn(chain.lsn[i]);
    } catch (error) {
      throw new ZenithError(
        "corrupt_data",
        `${describe(source, block)}: could not apply the record that ends at ${
          formatLsn(chain.lsn[i] as Lsn)
        }: ${errorMessage(error)}`,
        { cause: error },
      );
    }
  }
}

const image = new Uint8Array(BLCKSZ);
const rebuilt: RebuiltValue = { tag: TAG_BYTES, bytes: image, off: 0, len: BLCKSZ };

/**
 * Returns the function with which the page store ends long chains of versions with an image. Only
 * pages of relations need it: SLRU pages get images during ingest. A result is valid until the next
 * call.
 *
 * @param pg the major that wrote the records
 */
export function pageImages(pg: PgVersion): Reconstruct {
  return (object, block, _lsn, chain) => {
    if (object.kind !== KIND_RELATION || block === SIZE_BLOCK) return null;
    const source = { spc: object.a, db: object.b, rel: object.c, fork: object.d };
    applyRecords(pg, chain, source, block, applyOldest(chain, source, block));
    finishPage(image, 0);
    return rebuilt;
  };
}

function describe(source: RelationBlocks, block: number): string {
  return `block ${block} of relation ${source.spc}/${source.db}/${source.rel}, fork ${source.fork}`;
}
