import { type Pack, pack } from "tar-stream";
import { BufferPool } from "../common/buffer_pool.ts";
import { assert } from "../common/assert.ts";
import { crc32c } from "../common/crc32c.ts";
import type { Lsn } from "../common/lsn.ts";
import { type CheckPoint, parseCheckpoint } from "../postgres/checkpoint.ts";
import {
  CONTROL_FILE_PATH,
  DB_SHUTDOWNED,
  encodeControlFile,
  parseControlFile,
} from "../postgres/control_file.ts";
import { buildFreeSpaceMap, freeSpaceCategory } from "../postgres/free_space_map.ts";
import { setPageChecksum } from "../postgres/page_checksum.ts";
import { BLCKSZ, heapFreeSpace, isHeapPage } from "../postgres/page_layout.ts";
import { databasePath, GLOBALTABLESPACE_OID, relationPath, RELSEG_SIZE } from "../postgres/relfile.ts";
import { SLRU_DIRECTORIES, SLRU_PAGES_PER_SEGMENT, slruSegmentPath } from "../postgres/slru.ts";
import { PG_MAJOR } from "../postgres/versions/v15.ts";
import { FSM_FORKNUM, INIT_FORKNUM, MAIN_FORKNUM, VISIBILITYMAP_FORKNUM } from "../postgres/wal/record.ts";
import { buildInitialSegments, type WalSegmentStart } from "../postgres/wal/initial_segment.ts";
import { walFileName } from "../postgres/wal/page_header.ts";
import { twophaseFileName } from "../postgres/wal/xact.ts";
import {
  encodeRelationManifest,
  type ManifestEntry,
  RELATION_MANIFEST_FILE,
} from "../protocol/relation_manifest.ts";
import {
  CHECKPOINT_KEY,
  CONTROL_KEY,
  KIND_DATABASE,
  KIND_RELATION,
  KIND_RELMAP,
  KIND_REPLORIGIN,
  KIND_TABLESPACE,
  KIND_TWOPHASE,
} from "./keys.ts";
import type { BlockSource } from "./page_reader.ts";
import { NO_FORK } from "./relation_forks.ts";
import type { Timeline } from "./timeline.ts";

/** What initdb makes besides the directories that have content here. */
const DIRECTORIES = [
  "base",
  "global",
  "pg_commit_ts",
  "pg_dynshmem",
  "pg_logical",
  "pg_logical/mappings",
  "pg_logical/snapshots",
  "pg_multixact",
  "pg_multixact/members",
  "pg_multixact/offsets",
  "pg_notify",
  "pg_replslot",
  "pg_serial",
  "pg_snapshots",
  "pg_stat",
  "pg_stat_tmp",
  "pg_subtrans",
  "pg_tblspc",
  "pg_twophase",
  "pg_wal",
  "pg_wal/archive_status",
  "pg_xact",
];

/** Pages written to the archive at once: enough to keep the pipe full, little enough not to hold up other requests. */
const PAGES_PER_CHUNK = 64;

/** A table smaller than this gets no free space map: Postgres finds its few pages without. */
const FSM_MIN_BLOCKS = 4;

/** ReplicationStateOnDisk, src/backend/replication/logical/origin.c. */
const REPLICATION_STATE_MAGIC = 0x1257dade;
const REPLICATION_STATE_SIZE = 16;

/**
 * `complete`: everything. `lazy`: a list of the relation files instead of the files, for a compute that fetches their pages as it
 * needs them, and no WAL, which it makes itself (docs/formats/relation_manifest.md).
 */
export type BasebackupContent = "complete" | "lazy";

/**
 * A data directory of the timeline as of `at.lsn`, as a tar stream: stock Postgres starts on a complete one as after a
 * clean shutdown. Configuration files are not in it; tablespaces are plain directories below `pg_tblspc`.
 *
 * A chunk is good until the next one is asked for.
 *
 * @param at a record boundary and the start of the record before it
 */
export async function* basebackup(
  timeline: Timeline,
  at: { lsn: Lsn; prev: Lsn },
  content: BasebackupContent = "complete",
): AsyncGenerator<Uint8Array> {
  const archive = pack();
  const buffers = new BufferPool(PAGES_PER_CHUNK * BLCKSZ);
  const writer = new BasebackupWriter(timeline, at, content, archive, buffers);
  // A failure must reach the reader of the archive, which is what destroying it does.
  const done = writer.write().then(() => archive.finalize(), (error) => archive.destroy(error));
  for await (const chunk of archive) {
    yield chunk as Uint8Array;
    // Who asks for the next one is done with this.
    buffers.release(chunk as Uint8Array);
  }
  await done;
}

class BasebackupWriter {
  readonly #timeline: Timeline;
  readonly #lsn: Lsn;
  readonly #prev: Lsn;
  readonly #content: BasebackupContent;
  readonly #archive: Pack;
  /** For chunks of pages: gigabytes of them would otherwise wait for a garbage collection. */
  readonly #buffers: BufferPool;
  readonly #checksums: boolean;
  readonly #control: Uint8Array;

  constructor(
    timeline: Timeline,
    at: { lsn: Lsn; prev: Lsn },
    content: BasebackupContent,
    archive: Pack,
    buffers: BufferPool,
  ) {
    this.#buffers = buffers;
    this.#timeline = timeline;
    this.#lsn = at.lsn;
    this.#prev = at.prev;
    this.#content = content;
    this.#archive = archive;
    const control = timeline.values.get(CONTROL_KEY, at.lsn);
    assert(control !== null, "every timeline has the control file of its initdb");
    this.#control = control;
    this.#checksums = parseControlFile(control).data_checksum_version !== 0;
  }

  async write(): Promise<void> {
    for (const directory of DIRECTORIES) await this.#directory(directory);
    await this.#text("PG_VERSION", `${PG_MAJOR}\n`);
    await this.#databases();
    if (this.#content === "lazy") await this.#relationManifest();
    else await this.#relations();
    await this.#slrus();
    await this.#twophase();
    await this.#replicationOrigins();
    await this.#controlFileAndWal();
  }

  async #databases(): Promise<void> {
    for (const [key] of this.#timeline.values.present({ kind: KIND_TABLESPACE }, this.#lsn)) {
      await this.#directory(`pg_tblspc/${key.a}`);
    }
    const tablespaceDirectories = new Set<string>();
    for (const [key] of this.#timeline.values.present({ kind: KIND_DATABASE }, this.#lsn)) {
      const path = databasePath(key.a, key.b);
      const parent = path.slice(0, path.lastIndexOf("/"));
      if (parent.startsWith("pg_tblspc/") && !tablespaceDirectories.has(parent)) {
        tablespaceDirectories.add(parent);
        await this.#directory(parent);
      }
      await this.#directory(path);
      await this.#text(`${path}/PG_VERSION`, `${PG_MAJOR}\n`);
    }
    for (const [key, map] of this.#timeline.values.present({ kind: KIND_RELMAP }, this.#lsn)) {
      const directory = key.a === GLOBALTABLESPACE_OID ? "global" : databasePath(key.a, key.b);
      await this.#file(`${directory}/pg_filenode.map`, map);
    }
  }

  async #relations(): Promise<void> {
    for (const { source, fork, blocks } of this.#forks()) await this.#fork(source, fork, blocks);
  }

  async #relationManifest(): Promise<void> {
    const entries: ManifestEntry[] = [];
    for (const { source, fork, blocks } of this.#forks()) {
      const { spc, db, rel, fork: sourceFork } = source;
      entries.push({ spc, db, rel, fork, sourceFork, blocks });
    }
    const manifest = encodeRelationManifest({ lsn: this.#lsn, prev: this.#prev, entries });
    await this.#file(RELATION_MANIFEST_FILE, manifest);
  }

  /** The forks that the data directory has, and where the pages of each are. */
  *#forks(): Generator<{ source: BlockSource; fork: number; blocks: number }> {
    for (const key of this.#timeline.store.objects({ kind: KIND_RELATION })) {
      const { a: spc, b: db, c: rel, d: fork } = key;
      const slot = this.#timeline.store.slot(key);
      const blocks = this.#timeline.forks.blocksAt(slot, this.#lsn);
      if (blocks === NO_FORK) continue;
      const source = { spc, db, rel, fork, slot };
      if (fork === INIT_FORKNUM) {
        // An unlogged relation starts as its init fork says, as after a crash.
        yield { source, fork: INIT_FORKNUM, blocks };
        yield { source, fork: MAIN_FORKNUM, blocks };
      } else if (fork === VISIBILITYMAP_FORKNUM || !this.#isUnlogged(spc, db, rel)) {
        yield { source, fork, blocks };
      }
    }
  }

  #isUnlogged(spc: number, db: number, rel: number): boolean {
    return this.#timeline.forks.blocksAt(
      this.#timeline.forks.get(spc, db, rel, INIT_FORKNUM).slot,
      this.#lsn,
    ) !==
      NO_FORK;
  }

  /** Writes the files of one fork of a relation, with the pages of `source`: the same fork, or the init fork. */
  async #fork(source: BlockSource, fork: number, blocks: number): Promise<void> {
    const rnode = { spcNode: source.spc, dbNode: source.db, relNode: source.rel };
    const categories = fork === MAIN_FORKNUM && blocks >= FSM_MIN_BLOCKS ? new Uint8Array(blocks) : null;
    let isHeap = false;
    for (let segment = 0; segment === 0 || segment * RELSEG_SIZE < blocks; segment++) {
      const first = segment * RELSEG_SIZE;
      const last = Math.min(blocks, first + RELSEG_SIZE);
      const entry = this.#entry(relationPath(rnode, fork, segment), (last - first) * BLCKSZ);
      for (let block = first; block < last; block += PAGES_PER_CHUNK) {
        const count = Math.min(PAGES_PER_CHUNK, last - block);
        const pages = count === PAGES_PER_CHUNK ? this.#buffers.take() : new Uint8Array(count * BLCKSZ);
        for (let i = 0; i < count; i++) {
          const at = i * BLCKSZ;
          this.#timeline.reader.readPage(source, block + i, this.#lsn, pages, at);
          if (categories !== null) {
            isHeap ||= isHeapPage(pages, at);
            categories[block + i] = freeSpaceCategory(heapFreeSpace(pages, at));
          }
          if (this.#checksums) setPageChecksum(pages, block + i, at);
        }
        await entry.write(pages);
      }
      await entry.end();
    }
    if (categories !== null && isHeap) {
      await this.#file(relationPath(rnode, FSM_FORKNUM), this.#freeSpaceMap(categories));
    }
  }

  #freeSpaceMap(categories: Uint8Array): Uint8Array {
    const map = buildFreeSpaceMap(categories);
    if (this.#checksums) {
      for (let block = 0; block * BLCKSZ < map.length; block++) setPageChecksum(map, block, block * BLCKSZ);
    }
    return map;
  }

  async #slrus(): Promise<void> {
    for (let slru = 0; slru < SLRU_DIRECTORIES.length; slru++) {
      for (const { segment, pages } of this.#timeline.slru.segments(slru, this.#lsn)) {
        const content = new Uint8Array(pages * BLCKSZ);
        for (let i = 0; i < pages; i++) {
          const page = segment * SLRU_PAGES_PER_SEGMENT + i;
          this.#timeline.slru.read(slru, page, this.#lsn, content, i * BLCKSZ);
        }
        await this.#file(slruSegmentPath(slru, segment), content);
      }
    }
  }

  async #twophase(): Promise<void> {
    for (const [key, state] of this.#timeline.values.present({ kind: KIND_TWOPHASE }, this.#lsn)) {
      await this.#file(`pg_twophase/${twophaseFileName(key.a)}`, state);
    }
  }

  async #replicationOrigins(): Promise<void> {
    const origins = [...this.#timeline.values.present({ kind: KIND_REPLORIGIN }, this.#lsn)];
    if (origins.length === 0) return;
    const content = new Uint8Array(4 + origins.length * REPLICATION_STATE_SIZE + 4);
    const view = new DataView(content.buffer);
    view.setUint32(0, REPLICATION_STATE_MAGIC, true);
    let at = 4;
    for (const [key, remoteLsn] of origins) {
      view.setUint16(at, key.a, true);
      content.set(remoteLsn, at + 8);
      at += REPLICATION_STATE_SIZE;
    }
    view.setUint32(at, crc32c(content, 0, at), true);
    await this.#file("pg_logical/replorigin_checkpoint", content);
  }

  /** The shutdown checkpoint at the LSN, and a control file that points at it. */
  async #controlFileAndWal(): Promise<void> {
    const stored = this.#timeline.values.get(CHECKPOINT_KEY, this.#lsn);
    assert(stored !== null, "every timeline has its checkpoint state");
    const checkpoint = { ...parseCheckpoint(stored), redo: this.#lsn, oldestActiveXid: 0 };
    if (this.#content === "complete") await this.#wal(checkpoint);
    const changed = encodeControlFile(this.#control, {
      state: DB_SHUTDOWNED,
      checkPoint: this.#lsn,
      checkPointCopy: checkpoint,
    });
    await this.#file(CONTROL_FILE_PATH, changed);
  }

  async #wal(checkpoint: CheckPoint): Promise<void> {
    const { xlog_seg_size, system_identifier } = parseControlFile(this.#control);
    const segments = buildInitialSegments({
      lsn: this.#lsn,
      prev: this.#prev,
      systemIdentifier: system_identifier,
      segmentSize: xlog_seg_size,
      checkpoint,
    });
    for (const segment of segments) await this.#walSegment(segment, checkpoint.ThisTimeLineID, xlog_seg_size);
  }

  async #walSegment(segment: WalSegmentStart, tli: number, size: number): Promise<void> {
    const entry = this.#entry(`pg_wal/${walFileName(tli, segment.segmentStart, size)}`, size);
    await entry.write(segment.bytes);
    await entry.zeros(size - segment.bytes.length);
    await entry.end();
  }

  #directory(name: string): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#archive.entry(
        { name, type: "directory", mode: 0o700 },
        (error) => error ? reject(error) : resolve(),
      );
    });
  }

  #text(name: string, text: string): Promise<void> {
    return this.#file(name, new TextEncoder().encode(text));
  }

  async #file(name: string, content: Uint8Array): Promise<void> {
    const entry = this.#entry(name, content.length);
    await entry.write(content);
    await entry.end();
  }

  #entry(name: string, size: number): TarEntry {
    return new TarEntry(this.#archive, name, size);
  }
}

const ZEROS = new Uint8Array(1 << 20);

/** One file of the archive, written piece by piece; each write waits until the reader has taken what is before it. */
class TarEntry {
  readonly #stream: ReturnType<Pack["entry"]>;
  readonly #finished: Promise<void>;

  constructor(archive: Pack, name: string, size: number) {
    let settle!: (error?: Error | null) => void;
    this.#finished = new Promise((resolve, reject) => {
      settle = (error) => error ? reject(error) : resolve();
    });
    // When the archive is destroyed, whoever reads it is told why; nobody may be waiting for the entry.
    this.#finished.catch(() => {});
    this.#stream = archive.entry({ name, size, mode: 0o600 }, (error) => settle(error));
  }

  async write(bytes: Uint8Array): Promise<void> {
    if (bytes.length === 0) return;
    if (this.#stream.write(bytes)) return;
    await Promise.race([new Promise<void>((resolve) => this.#stream.once("drain", resolve)), this.#finished]);
  }

  async zeros(length: number): Promise<void> {
    for (let left = length; left > 0; left -= ZEROS.length) {
      await this.write(ZEROS.subarray(0, Math.min(left, ZEROS.length)));
    }
  }

  async end(): Promise<void> {
    this.#stream.end(undefined);
    await this.#finished;
  }
}
