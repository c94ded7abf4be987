/**
 * What the page store's own operations cost, with synthetic WAL: `bun tests/bench/pagestore.ts`. Prints a table and a line
 * of JSON. The reference in each round is a copy of the same bytes.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { nodeDisk } from "../../src/common/disk.ts";
import type { Lsn } from "../../src/common/lsn.ts";
import { BlockCache, TimelineStore, ValueChain } from "../../src/pagestore/mod.ts";
import { Random } from "../harness/random.ts";

const ROUNDS = 5;
const RECORD_BYTES = 120;
const RECORDS = 500_000;
const OBJECTS = 10;
const BLOCKS = 5000;
const CHUNK_BYTES = 1 << 20;
const READS = 20_000;

interface Round {
  readonly putNs: number;
  readonly copyNs: number;
  readonly collectMemoryNs: number;
  readonly flushMbPerS: number;
  readonly collectFileNs: number;
  readonly bytesPerVersionOnDisk: number;
  readonly memoryBytesPerVersion: number;
}

async function round(directory: string): Promise<Round> {
  const random = new Random(1);
  const config = { layerBytes: 1 << 30, layerAgeMs: 1e9 };
  const options = {
    disk: nodeDisk,
    nowMs: () => performance.now(),
    cache: new BlockCache(256 << 20),
    config,
  };
  const store = await TimelineStore.create(directory, { ...options, startLsn: 8 as Lsn });
  const slots = Array.from({ length: OBJECTS }, (_, c) => store.slot({ kind: 1, a: 1663, b: 5, c, d: 0 }));
  const perChunk = Math.floor(CHUNK_BYTES / RECORD_BYTES);
  let lsn = 8;
  let putMs = 0;
  let copyMs = 0;
  const copy = new Uint8Array(CHUNK_BYTES);
  for (let done = 0; done < RECORDS; done += perChunk) {
    const chunk = new Uint8Array(CHUNK_BYTES);
    for (let i = 0; i < CHUNK_BYTES; i++) chunk[i] = i % RECORD_BYTES < 60 ? i % RECORD_BYTES : random.u32();
    const blocks = Uint32Array.from({ length: perChunk }, () => random.int(BLOCKS * OBJECTS));
    let started = performance.now();
    for (let i = 0; i < perChunk; i++) {
      store.noteRecord(lsn);
      lsn += RECORD_BYTES;
      const block = blocks[i];
      store.put(
        slots[block % OBJECTS],
        (block / OBJECTS) | 0,
        lsn,
        chunk,
        i * RECORD_BYTES,
        RECORD_BYTES,
        1,
        i % 10 === 0,
      );
    }
    store.advance(lsn as Lsn);
    putMs += performance.now() - started;
    started = performance.now();
    for (let i = 0; i < perChunk; i++) {
      copy.set(chunk.subarray(i * RECORD_BYTES, (i + 1) * RECORD_BYTES), i * RECORD_BYTES);
    }
    copyMs += performance.now() - started;
  }
  const versions = (lsn - 8) / RECORD_BYTES;
  const walBytes = lsn - 8;
  const memoryBytes = store.sizes().memoryBytes - walBytes;
  const collectMemoryNs = collect(store, slots, lsn);
  const started = performance.now();
  await store.flush();
  const flushMs = performance.now() - started;
  collect(store, slots, lsn);
  const collectFileNs = collect(store, slots, lsn);
  const { layerBytes } = store.sizes();
  await store.close();
  return {
    putNs: putMs * 1e6 / versions,
    copyNs: copyMs * 1e6 / versions,
    collectMemoryNs,
    flushMbPerS: walBytes / 1e3 / flushMs,
    collectFileNs,
    bytesPerVersionOnDisk: layerBytes / versions,
    memoryBytesPerVersion: memoryBytes / versions,
  };
}

function collect(store: TimelineStore, slots: readonly number[], lsn: number): number {
  const random = new Random(2);
  const chain = new ValueChain();
  const started = performance.now();
  for (let i = 0; i < READS; i++) store.collect(slots[random.int(OBJECTS)], random.int(BLOCKS), lsn, chain);
  return (performance.now() - started) * 1e6 / READS;
}

const directory = mkdtempSync(join(tmpdir(), "zenith-bench-"));
const rounds: Round[] = [];
try {
  for (let i = 0; i < ROUNDS; i++) rounds.push(await round(join(directory, String(i))));
} finally {
  rmSync(directory, { recursive: true });
}
const figures: Record<string, { median: number; min: number; max: number }> = {};
for (const name of Object.keys(rounds[0]) as (keyof Round)[]) {
  const sorted = rounds.map((one) => one[name]).sort((x, y) => x - y);
  figures[name] = { median: sorted[ROUNDS >> 1], min: sorted[0], max: sorted[ROUNDS - 1] };
}
console.table(figures);
console.log(JSON.stringify({ bench: "pagestore", figures }));
process.exit(0);
