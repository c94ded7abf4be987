/**
 * How long the page server's thread stands still while layers are merged: the longest gap between two turns of its event loop, with
 * the merge in a thread of its own, and as the reference with the merge in the same thread. And the memory that it takes.
 *
 * `npm run bench -- merge [rounds [MiB per layer]]`
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { nodeDisk } from "../../src/common/disk.ts";
import type { Lsn } from "../../src/common/lsn.ts";
import { WorkerThread } from "../../src/process/worker_thread.ts";
import {
  BlockCache,
  mergeHere,
  type MergeLayers,
  type MergeReply,
  type MergeRequest,
  TimelineStore,
} from "../../src/pagestore/mod.ts";
import { Random } from "../harness/random.ts";
import { compare, type Comparison, report } from "./harness.ts";

const ROUNDS = 5;
const LAYER_MIB = 48;
const LAYERS = 4;
const RECORD_BYTES = 120;
const OBJECTS = 10;
const BLOCKS = 5000;
/** No kind that the page server makes images of. */
const KIND = 99;

/** Four layers of records, and then what their merge costs others. @returns the longest stall in milliseconds */
async function longestStall(
  directory: string,
  layerBytes: number,
  mergeLayers: MergeLayers,
): Promise<number> {
  const random = new Random(1);
  const store = await TimelineStore.create(directory, {
    disk: nodeDisk,
    nowMs: () => performance.now(),
    cache: new BlockCache(16 << 20),
    config: { layerBytes: 1 << 30, layerAgeMs: Infinity, mergeFanIn: LAYERS },
    mergeLayers,
    startLsn: 8 as Lsn,
  });
  let lsn = 8;
  for (let layer = 0; layer < LAYERS; layer++) {
    for (let bytes = 0; bytes < layerBytes; bytes += RECORD_BYTES) {
      const slot = store.slot({ kind: KIND, a: 1663, b: 5, c: random.int(OBJECTS), d: 0 });
      store.noteRecord(lsn);
      lsn += RECORD_BYTES;
      const value = new Uint8Array(RECORD_BYTES).fill(random.u32(), 0, RECORD_BYTES / 2);
      store.putValue(slot, random.int(BLOCKS), lsn, value, 1, random.oneIn(10));
      store.advance(lsn as Lsn);
    }
    await store.flush();
  }
  let running = true;
  const merging = store.compact().finally(() => (running = false));
  let longest = 0;
  let last = performance.now();
  while (running) {
    await new Promise((resolve) => setTimeout(resolve, 1));
    const now = performance.now();
    longest = Math.max(longest, now - last);
    last = now;
  }
  await merging;
  await store.close();
  rmSync(directory, { recursive: true });
  return longest;
}

export async function run(args: readonly string[]): Promise<void> {
  const rounds = Number(args[0] ?? ROUNDS);
  const layerBytes = Number(args[1] ?? LAYER_MIB) << 20;
  const dir = mkdtempSync(join(tmpdir(), "zenith-bench-merge-"));
  const thread = new WorkerThread<MergeRequest, MergeReply>("src/pageserver/workers/merge_worker.ts");
  let number = 0;
  const measure = (merge: MergeLayers) => longestStall(join(dir, String(number++)), layerBytes, merge);
  const results: Comparison[] = [];
  try {
    results.push(
      await compare(
        `longest stall, ${LAYERS} layers of ${layerBytes >> 20} MiB`,
        "ms",
        () => measure((request) => thread.run(request)),
        () => measure(mergeHere(nodeDisk)),
        rounds,
      ),
    );
    report("merge", results);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}
