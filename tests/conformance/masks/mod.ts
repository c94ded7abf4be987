/** Which mask is whose: the rm_mask column of src/include/access/rmgrlist.h. */
import {
  RM_BRIN_ID,
  RM_BTREE_ID,
  RM_GENERIC_ID,
  RM_GIN_ID,
  RM_GIST_ID,
  RM_HASH_ID,
  RM_HEAP2_ID,
  RM_HEAP_ID,
  RM_SEQ_ID,
  RM_SPGIST_ID,
} from "../../../src/postgres/wal/rmgr.ts";
import { maskBrin } from "./brin.ts";
import { maskBtree } from "./btree.ts";
import { maskGeneric } from "./generic.ts";
import { maskGin } from "./gin.ts";
import { maskGist } from "./gist.ts";
import { maskHash } from "./hash.ts";
import { maskHeap } from "./heap.ts";
import { maskSequence } from "./sequence.ts";
import { maskSpgist, maskSpgistUnlogged } from "./spgist.ts";

/** Sets to zero in `page`, block `blkno` of its fork, what may differ without being wrong. */
export type Mask = (page: Uint8Array, blkno: number) => void;

/** By resource manager id; undefined where PostgreSQL logs no pages for checking. */
export const MASKS: readonly (Mask | undefined)[] = masks();

function masks(): (Mask | undefined)[] {
  const byId: (Mask | undefined)[] = new Array(256).fill(undefined);
  byId[RM_HEAP_ID] = maskHeap;
  byId[RM_HEAP2_ID] = maskHeap;
  byId[RM_BTREE_ID] = maskBtree;
  byId[RM_HASH_ID] = maskHash;
  byId[RM_GIN_ID] = maskGin;
  byId[RM_GIST_ID] = maskGist;
  byId[RM_SEQ_ID] = maskSequence;
  byId[RM_SPGIST_ID] = maskSpgist;
  byId[RM_BRIN_ID] = maskBrin;
  byId[RM_GENERIC_ID] = maskGeneric;
  return byId;
}

/** By resource manager id: what data files may have that no record tells. */
export const UNLOGGED_MASKS: readonly (Mask | undefined)[] = unloggedMasks();

function unloggedMasks(): (Mask | undefined)[] {
  const byId: (Mask | undefined)[] = new Array(256).fill(undefined);
  byId[RM_SPGIST_ID] = maskSpgistUnlogged;
  return byId;
}
