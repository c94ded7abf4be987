/**
 * Builds a relation's free space map from the free space of its pages.
 *
 * PostgreSQL does not log the map and treats it as a hint. A compute that started without one would
 * extend a table instead of filling its holes, until the next vacuum.
 *
 * Layout: src/backend/storage/freespace/README, src/include/storage/fsm_internals.h. Three levels
 * of pages; each page holds a binary tree in an array, in which every node is the maximum of its
 * children. A leaf stands for a heap page (on the lowest level) or for a page of the level below.
 */
import { BLCKSZ, initPageHeader, SIZE_OF_PAGE_HEADER } from "./page_layout.ts";

/** fp_next_slot, which precedes the nodes. */
const NODES_OFFSET = SIZE_OF_PAGE_HEADER + 4;
const NODES_PER_PAGE = BLCKSZ - NODES_OFFSET;
const NON_LEAF_NODES_PER_PAGE = BLCKSZ / 2 - 1;
/** Leaves of one page: SlotsPerFSMPage. */
const FSM_SLOTS_PER_PAGE = NODES_PER_PAGE - NON_LEAF_NODES_PER_PAGE;

/** Free space is kept in steps of this many bytes. */
const FSM_CAT_STEP = BLCKSZ / 256;
/** MaxHeapTupleSize: what the highest category promises. */
const MAX_FSM_REQUEST_SIZE = BLCKSZ - 32;

/** The category of a page with `available` bytes free: fsm_space_avail_to_cat. */
export function freeSpaceCategory(available: number): number {
  if (available >= MAX_FSM_REQUEST_SIZE) return 255;
  return Math.min(254, Math.floor(available / FSM_CAT_STEP));
}

/**
 * @param categories one {@link freeSpaceCategory} per block of the main fork
 * @returns the pages of the `_fsm` fork in order: the root, then each page before those below it
 */
export function buildFreeSpaceMap(categories: Uint8Array): Uint8Array {
  const bottomPages = Math.max(1, Math.ceil(categories.length / FSM_SLOTS_PER_PAGE));
  const middlePages = Math.ceil(bottomPages / FSM_SLOTS_PER_PAGE);
  const map = new Uint8Array((1 + middlePages + bottomPages) * BLCKSZ);
  const middleMaxima = new Uint8Array(middlePages);
  // Depth first, as fsm_logical_to_physical counts: root, middle page 0, its bottom pages, middle
  // page 1, …
  let physical = 1;
  for (let middle = 0; middle < middlePages; middle++) {
    const middleBlock = physical++;
    const first = middle * FSM_SLOTS_PER_PAGE;
    const last = Math.min(first + FSM_SLOTS_PER_PAGE, bottomPages);
    const bottomMaxima = new Uint8Array(last - first);
    for (let bottom = first; bottom < last; bottom++) {
      const from = bottom * FSM_SLOTS_PER_PAGE;
      const leaves = categories.subarray(from, from + FSM_SLOTS_PER_PAGE);
      bottomMaxima[bottom - first] = fillPage(map, physical++ * BLCKSZ, leaves);
    }
    middleMaxima[middle] = fillPage(map, middleBlock * BLCKSZ, bottomMaxima);
  }
  fillPage(map, 0, middleMaxima);
  return map;
}

/** Writes one page at `at`; returns its root's value. */
function fillPage(map: Uint8Array, at: number, leaves: Uint8Array): number {
  initPageHeader(map, at, BLCKSZ);
  const nodes = at + NODES_OFFSET;
  map.set(leaves, nodes + NON_LEAF_NODES_PER_PAGE);
  for (let node = NON_LEAF_NODES_PER_PAGE - 1; node >= 0; node--) {
    const left = 2 * node + 1;
    const right = left + 1;
    const l = left < NODES_PER_PAGE ? map[nodes + left] : 0;
    const r = right < NODES_PER_PAGE ? map[nodes + right] : 0;
    map[nodes + node] = l > r ? l : r;
  }
  return map[nodes];
}
