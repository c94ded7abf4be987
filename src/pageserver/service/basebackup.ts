/** Builds a data directory of a timeline at an LSN, as a tar stream. */
import { assert } from "../../common/assert.ts";
import { nextTurn } from "../../common/event_loop.ts";
import type { Lsn } from "../../common/lsn.ts";
import { BACKUP_LABEL_FILE, ORIGINS_FILE } from "../../postgres/cluster/backup_files.ts";
import { formatBackupLabel } from "../../postgres/cluster/backup_label.ts";
import { type CheckPoint, parseCheckpoint } from "../../postgres/cluster/checkpoint.ts";
import {
  CONTROL_FILE_PATH,
  DB_IN_ARCHIVE_RECOVERY,
  DB_SHUTDOWNED,
  encodeControlFile,
  parseControlFile,
} from "../../postgres/control_file.ts";
import { buildFreeSpaceMap, freeSpaceCategory } from "../../postgres/cluster/free_space_map.ts";
import { setPageChecksum } from "../../postgres/cluster/page_checksum.ts";
import { BLCKSZ, heapFreeSpace, isHeapPage } from "../../postgres/cluster/page_layout.ts";
import {
  databasePath,
  FSM_FORKNUM,
  GLOBALTABLESPACE_OID,
  INIT_FORKNUM,
  MAIN_FORKNUM,
  relationPath,
  RELSEG_SIZE,
  VISIBILITYMAP_FORKNUM,
} from "../../postgres/cluster/relfile.ts";
import { encodeReplicationOrigins } from "../../postgres/cluster/replication_origins.ts";
import { SLRU_DIRECTORIES, SLRU_PAGES_PER_SEGMENT, slruSegmentPath } from "../../postgres/cluster/slru.ts";
import { buildCheckpointPages, type CheckpointPages } from "../../postgres/initial_segment.ts";
import { endBeforeHeader, pageOffset, walFileName, XLOG_BLCKSZ } from "../../postgres/wal/page_header.ts";
import {
  historyFiles,
  newestTli,
  tlisOfSegment,
  type WalTimelines,
} from "../../postgres/wal/wal_timelines.ts";
import { twophaseFileName } from "../../postgres/wal/xact.ts";
import { cutSegmentName } from "../../protocol/cut_segment.ts";
import {
  encodeRelationManifest,
  type ManifestEntry,
  RELATION_MANIFEST_FILE,
} from "../../protocol/relation_manifest.ts";
import { encodeTablespaceMap, TABLESPACE_MAP_FILE } from "../../protocol/tablespace_map.ts";
import {
  CHECKPOINT_KEY,
  CONTROL_KEY,
  KIND_DATABASE,
  KIND_RELMAP,
  KIND_REPLORIGIN,
  KIND_TABLESPACE,
  KIND_TWOPHASE,
} from "../content/keys.ts";
import { AbsentBytes, AbsentOnes, type ObjectId, presentIn, whenPresent } from "../../pagestore/mod.ts";
import type { BlockSource } from "../content/page_reader.ts";
import type { ForkAt, TimelineView } from "../content/timeline_view.ts";
import { TarWriter } from "./tar_writer.ts";
import { type Turn, turnOf } from "./turns.ts";
import type { WalHead } from "../tenant/wal_head.ts";
import type { Timeline } from "../timeline/timeline.ts";
import type { PgVersion } from "../../postgres/versions/pg_version.ts";
import type { BasebackupContent } from "../../protocol/management.ts";

/** The directories that initdb creates, besides those with content here. */
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

/**
 * The size of the chunks: enough to keep the pipe full, small enough not to hold up other requests.
 */
const CHUNK_BYTES = 16 * BLCKSZ;

/**
 * Look up the sizes of this many forks before other work gets its turn. Each size may be in another
 * block of a layer file.
 */
const FORKS_PER_TURN = 16;

/** A smaller table gets no free space map. Postgres finds its few pages without one. */
const FSM_MIN_BLOCKS = 4;

/**
 * How many of PostgreSQL's timelines have a file with their history. Who is on an older one can't
 * go on from there.
 */
const HISTORY_FILES_MAX = 200;

/** An online checkpoint from which a backup is recovered. */
export interface OnlineStart {
  /** Where replay starts. */
  readonly redoLsn: Lsn;
  /** The checkpoint's record. */
  readonly checkpointLsn: Lsn;
}

export interface BasebackupOptions {
  readonly content?: BasebackupContent;
  /** Leaves out what precedes `head.from` in its segment (protocol/cut_segment.ts). */
  readonly isOwnOnly?: boolean;
  /** Whole segments before the one that the backup's LSN is in. */
  readonly before?: Iterable<WalHead>;
  /**
   * Makes it a backup that is recovered from there, as one of a standby, and goes on with the WAL
   * of the branch. Otherwise it is a cluster that was stopped at that LSN.
   */
  readonly start?: OnlineStart | null;
  /** What the label says of a backup that is recovered. */
  readonly label?: string;
  /** False leaves the WAL out. */
  readonly wal?: boolean;
  /** False leaves out where tablespaces were created: they are directories below pg_tblspc. */
  readonly tablespaceMap?: boolean;
  /** Files that come in the data directory itself. */
  readonly files?: ReadonlyMap<string, Uint8Array>;
  /** False leaves out the end of the archive. */
  readonly terminated?: boolean;
  /** Shares the thread with other tenants. */
  readonly turn?: Turn;
}

/**
 * Streams a data directory of the timeline as of `at.lsn`, as a tar. Stock Postgres starts on a
 * complete one as after a clean shutdown. The directory has no configuration files. Tablespaces are
 * plain directories below `pg_tblspc`, and a list says where they were created.
 *
 * A chunk is valid until the next one is requested.
 *
 * @param at a record boundary and the start of the record before it
 * @param head the WAL before `at.lsn`
 */
export async function* basebackup(
  timeline: Timeline,
  at: { lsn: Lsn; prev: Lsn },
  head: WalHead,
  options: BasebackupOptions = {},
): AsyncGenerator<Uint8Array> {
  const writer = await whenPresent(() => new BasebackupWriter(timeline, at, head, options));
  const parts = writer.write();
  const { turn } = options;
  try {
    for (;;) {
      const began = turn?.begin() ?? 0;
      if (began < 0) {
        await turnOf(turn!);
        continue;
      }
      const { done, value: part } = parts.next();
      turn?.end(began);
      if (done === true) return;
      if (part === PAUSE) continue;
      if (part instanceof AbsentBytes) {
        await part.arrive();
        continue;
      }
      yield part;
      // Otherwise a client that reads fast enough would keep this thread to itself.
      await nextTurn();
    }
  } finally {
    // A client that goes away leaves it midway, with a WAL segment open.
    parts.return(undefined);
  }
}

/**
 * Returns the pages of the shutdown checkpoint with which a cluster's WAL ends that was stopped at
 * `at`. The WAL before it on its first page is left out.
 */
export function stoppedWal(timeline: Timeline, at: { lsn: Lsn; prev: Lsn }): CheckpointPages[] {
  const view = timeline.at(at.lsn);
  const [control, stored] = [view.value(CONTROL_KEY), view.value(CHECKPOINT_KEY)];
  assert(control !== null && stored !== null, "every timeline has its control file and checkpoint");
  const { xlog_seg_size: segmentSize, system_identifier: systemIdentifier } = parseControlFile(control);
  const tli = newestTli(timeline.walTimelinesBefore(at.lsn));
  const checkpoint = { ...parseCheckpoint(stored), ThisTimeLineID: tli, PrevTimeLineID: tli };
  return buildCheckpointPages({ pg: timeline.pg, ...at, systemIdentifier, segmentSize, checkpoint });
}

/** Comes after a piece of work, where others may have the thread. */
const PAUSE = Symbol("pause");

/** A chunk of the tar, or what has to be fetched before the writer can go on. */
type Part = Uint8Array | AbsentBytes | typeof PAUSE;

/** A fork of the data directory. */
interface DirectoryFork {
  readonly source: BlockSource;
  readonly fork: number;
  readonly blocks: number;
}

class BasebackupWriter {
  readonly #timeline: Timeline;
  readonly #pg: PgVersion;
  readonly #view: TimelineView;
  readonly #prev: Lsn;
  readonly #head: WalHead;
  readonly #options: BasebackupOptions;
  readonly #content: BasebackupContent;
  readonly #tar = new TarWriter(CHUNK_BYTES);
  /** Of PostgreSQL, up to the LSN. */
  readonly #walTimelines: WalTimelines;
  readonly #checksums: boolean;
  readonly #control: Uint8Array;
  /**
   * The relations that may have an init fork. To look for one costs as much as to look up a size.
   */
  readonly #withInitFork = new Set<string>();
  /** The content of every PG_VERSION. */
  readonly #versionFile: Uint8Array;

  constructor(
    timeline: Timeline,
    at: { lsn: Lsn; prev: Lsn },
    head: WalHead,
    options: BasebackupOptions,
  ) {
    this.#timeline = timeline;
    this.#pg = timeline.pg;
    this.#view = timeline.at(at.lsn);
    this.#prev = at.prev;
    this.#head = head;
    this.#options = options;
    this.#content = options.content ?? "complete";
    this.#walTimelines = timeline.walTimelinesBefore(at.lsn);
    const control = this.#view.value(CONTROL_KEY);
    assert(control !== null, "every timeline has the control file of its initdb");
    this.#control = control;
    this.#versionFile = new TextEncoder().encode(`${timeline.pg.major}\n`);
    this.#checksums = parseControlFile(control).data_checksum_version !== 0;
  }

  /** Each chunk is valid until the next one is requested. */
  *write(): Generator<Part> {
    if (this.#options.start != null) yield* this.#label(this.#options.start);
    for (const directory of DIRECTORIES) yield* this.#tar.directory(directory);
    for (const [name, bytes] of this.#options.files ?? []) yield* this.#tar.file(name, bytes);
    yield* this.#tar.file("PG_VERSION", this.#versionFile);
    yield* this.#databases();
    if (this.#content === "lazy") yield* this.#relationManifest();
    else yield* this.#relations();
    yield* this.#slrus();
    yield* this.#twophase();
    yield* this.#replicationOrigins();
    yield* this.#controlFileAndWal();
    if (this.#options.terminated ?? true) yield* this.#tar.finish();
    else yield* this.#tar.handOut();
  }

  *#label({ redoLsn, checkpointLsn }: OnlineStart): Generator<Uint8Array> {
    const { xlog_seg_size } = parseControlFile(this.#control);
    const tli = newestTli(this.#walTimelines);
    const label = { startLsn: redoLsn, checkpointLsn, tli, fromStandby: true };
    const walFile = walFileName(tli, redoLsn, xlog_seg_size);
    const text = formatBackupLabel(label, walFile, this.#options.label ?? "base backup");
    yield* this.#tar.file(BACKUP_LABEL_FILE, new TextEncoder().encode(text));
  }

  *#databases(): Generator<Part> {
    const locations = new Map<number, string>();
    for (const [key, location] of yield* this.#values(KIND_TABLESPACE)) {
      locations.set(key.a, new TextDecoder().decode(location));
      yield* this.#tar.directory(`pg_tblspc/${key.a}`);
    }
    if (locations.size > 0 && (this.#options.tablespaceMap ?? true)) {
      yield* this.#tar.file(TABLESPACE_MAP_FILE, encodeTablespaceMap(locations));
    }
    const tablespaceDirectories = new Set<string>();
    for (const [key] of yield* this.#values(KIND_DATABASE)) {
      const path = databasePath(this.#pg, key.a, key.b);
      const parent = path.slice(0, path.lastIndexOf("/"));
      if (parent.startsWith("pg_tblspc/") && !tablespaceDirectories.has(parent)) {
        tablespaceDirectories.add(parent);
        yield* this.#tar.directory(parent);
      }
      yield* this.#tar.directory(path);
      yield* this.#tar.file(`${path}/PG_VERSION`, this.#versionFile);
    }
    for (const [key, map] of yield* this.#values(KIND_RELMAP)) {
      const directory = key.a === GLOBALTABLESPACE_OID ? "global" : databasePath(this.#pg, key.a, key.b);
      yield* this.#tar.file(`${directory}/pg_filenode.map`, map);
    }
  }

  *#values(kind: number): Generator<AbsentBytes, [ObjectId, Uint8Array][]> {
    return yield* presentIn(() => [...this.#view.values(kind)]);
  }

  *#relations(): Generator<Part> {
    for (const keys of yield* this.#forkKeys()) {
      const sources = yield* presentIn(() => this.#view.existingForks(keys));
      for (const { source, fork, blocks } of yield* this.#forks(sources)) {
        yield* this.#fork(source, fork, blocks);
      }
      yield PAUSE;
    }
  }

  *#relationManifest(): Generator<Part> {
    const entries: ManifestEntry[] = [];
    for (const sources of yield* this.#allForks()) {
      for (const { source, fork, blocks } of yield* this.#forks(sources)) {
        const { spc, db, rel, fork: sourceFork } = source;
        entries.push({ spc, db, rel, fork, sourceFork, blocks });
      }
      yield PAUSE;
    }
    const manifest = encodeRelationManifest({ lsn: this.#view.lsn, prev: this.#prev, entries });
    yield* this.#tar.file(RELATION_MANIFEST_FILE, manifest);
  }

  /** The keys of forks that may exist, a turn's worth at a time. */
  *#forkKeys(): Generator<AbsentBytes, ObjectId[][]> {
    const keys = yield* presentIn(() => this.#view.forkKeys());
    for (const { a: spc, b: db, c: rel, d: fork } of keys) {
      if (fork === INIT_FORKNUM) this.#withInitFork.add(`${spc}/${db}/${rel}`);
    }
    const turns = Math.ceil(keys.length / FORKS_PER_TURN);
    return Array.from(
      { length: turns },
      (_, i) => keys.slice(i * FORKS_PER_TURN, (i + 1) * FORKS_PER_TURN),
    );
  }

  /**
   * Returns all forks with their sizes, a turn's worth at a time. What some of them lack is fetched
   * at once: otherwise, each turn could wait for a request of its own.
   */
  *#allForks(): Generator<Part, ForkAt[][]> {
    const found: ForkAt[][] = [];
    let turns = [...(yield* this.#forkKeys()).entries()];
    while (turns.length > 0) {
      const absent = new AbsentOnes();
      const lacking: typeof turns = [];
      for (const turn of turns) {
        const [i, keys] = turn;
        const sources = absent.try(() => this.#view.existingForks(keys));
        if (sources === undefined) lacking.push(turn);
        else found[i] = sources;
        yield PAUSE;
      }
      const missing = absent.all();
      if (missing !== null) yield missing;
      turns = lacking;
    }
    return found;
  }

  /** Returns the forks of the data directory and the source of each fork's pages. */
  *#forks(sources: readonly ForkAt[]): Generator<AbsentBytes, DirectoryFork[]> {
    const found: DirectoryFork[] = [];
    for (const source of sources) {
      const { spc, db, rel, fork, blocks } = source;
      if (fork === INIT_FORKNUM) {
        // An unlogged relation starts as a copy of its init fork, as after a crash.
        found.push({ source, fork: INIT_FORKNUM, blocks }, { source, fork: MAIN_FORKNUM, blocks });
      } else if (
        fork === VISIBILITYMAP_FORKNUM || !(yield* this.#isUnlogged(spc, db, rel))
      ) {
        found.push({ source, fork, blocks });
      }
    }
    return found;
  }

  *#isUnlogged(spc: number, db: number, rel: number): Generator<AbsentBytes, boolean> {
    if (!this.#withInitFork.has(`${spc}/${db}/${rel}`)) return false;
    return yield* presentIn(() => this.#view.hasFork(spc, db, rel, INIT_FORKNUM));
  }

  /**
   * Writes the files of one fork of a relation. `source` provides the pages: it is the same fork,
   * or the init fork.
   */
  *#fork(source: BlockSource, fork: number, blocks: number): Generator<Part> {
    const rnode = { spcNode: source.spc, dbNode: source.db, relNode: source.rel };
    const categories = fork === MAIN_FORKNUM && blocks >= FSM_MIN_BLOCKS ? new Uint8Array(blocks) : null;
    let isHeap = false;
    for (let segment = 0; segment === 0 || segment * RELSEG_SIZE < blocks; segment++) {
      const first = segment * RELSEG_SIZE;
      const last = Math.min(blocks, first + RELSEG_SIZE);
      const size = (last - first) * BLCKSZ;
      yield* this.#tar.begin(relationPath(this.#pg, rnode, fork, segment), size);
      for (let block = first; block < last; block++) {
        yield* this.#tar.room(BLCKSZ);
        const { chunk, used } = this.#tar;
        try {
          this.#view.readPage(source, block, chunk, used);
        } catch (error) {
          if (!(error instanceof AbsentBytes)) throw error;
          yield error;
          block--;
          continue;
        }
        if (categories !== null) {
          isHeap ||= isHeapPage(chunk, used);
          categories[block] = freeSpaceCategory(heapFreeSpace(chunk, used));
        }
        if (this.#checksums) setPageChecksum(chunk, block, used);
        this.#tar.used += BLCKSZ;
        yield PAUSE;
      }
      yield* this.#tar.end(size);
    }
    if (categories !== null && isHeap) {
      yield* this.#tar.file(
        relationPath(this.#pg, rnode, FSM_FORKNUM),
        this.#freeSpaceMap(categories),
      );
    }
  }

  #freeSpaceMap(categories: Uint8Array): Uint8Array {
    const map = buildFreeSpaceMap(categories);
    if (this.#checksums) {
      for (let block = 0; block * BLCKSZ < map.length; block++) setPageChecksum(map, block, block * BLCKSZ);
    }
    return map;
  }

  *#slrus(): Generator<Part> {
    for (let slru = 0; slru < SLRU_DIRECTORIES.length; slru++) {
      for (const { segment, pages } of yield* presentIn(() => this.#view.slruSegments(slru))) {
        const content = new Uint8Array(pages * BLCKSZ);
        for (let i = 0; i < pages; i++) {
          const page = segment * SLRU_PAGES_PER_SEGMENT + i;
          yield* presentIn(() => this.#view.readSlruPage(slru, page, content, i * BLCKSZ));
          yield PAUSE;
        }
        yield* this.#tar.file(slruSegmentPath(slru, segment), content);
      }
    }
  }

  *#twophase(): Generator<Part> {
    const { nextXid } = yield* presentIn(() => this.#storedCheckpoint());
    for (const [key, state] of yield* this.#values(KIND_TWOPHASE)) {
      yield* this.#tar.file(`pg_twophase/${twophaseFileName(this.#pg, key.a, nextXid)}`, state);
    }
  }

  *#replicationOrigins(): Generator<Part> {
    const origins = yield* this.#values(KIND_REPLORIGIN);
    if (origins.length === 0) return;
    const states = origins.map(([key, remoteLsn]) => [key.a, remoteLsn] as const);
    yield* this.#tar.file(ORIGINS_FILE, encodeReplicationOrigins(states));
  }

  /** Writes the shutdown checkpoint at the LSN and a control file that points to it. */
  *#controlFileAndWal(): Generator<Part> {
    const stored = yield* presentIn(() => this.#storedCheckpoint());
    const checkpoint = { ...stored, redo: this.#view.lsn, oldestActiveXid: 0 };
    const { start, wal = true } = this.#options;
    if (wal) yield* this.#histories();
    if (start != null) {
      if (wal) yield* this.#recordedWal();
      const { xlog_seg_size } = parseControlFile(this.#control);
      const recovered = encodeControlFile(this.#control, {
        state: DB_IN_ARCHIVE_RECOVERY,
        checkPoint: start.checkpointLsn,
        minRecoveryPoint: endBeforeHeader(this.#view.lsn, xlog_seg_size),
        minRecoveryPointTLI: newestTli(this.#walTimelines),
      });
      yield* this.#tar.file(CONTROL_FILE_PATH, recovered);
      return;
    }
    if (wal) yield* this.#wal(checkpoint);
    const changed = encodeControlFile(this.#control, {
      state: DB_SHUTDOWNED,
      checkPoint: this.#view.lsn,
      checkPointCopy: checkpoint,
    });
    yield* this.#tar.file(CONTROL_FILE_PATH, changed);
  }

  #storedCheckpoint(): CheckPoint {
    const stored = this.#view.value(CHECKPOINT_KEY);
    assert(stored !== null, "every timeline has its checkpoint state");
    const tli = newestTli(this.#walTimelines);
    return { ...parseCheckpoint(stored), ThisTimeLineID: tli, PrevTimeLineID: tli };
  }

  /** Writes what tells PostgreSQL of its timelines. An archive has had these files before. */
  *#histories(): Generator<Uint8Array> {
    const from = newestTli(this.#walTimelines) - HISTORY_FILES_MAX + 1;
    for (const { name, content } of historyFiles(this.#walTimelines, from)) {
      yield* this.#tar.file(`pg_wal/${name}`, content);
      yield* this.#noteArchived(name);
    }
  }

  *#noteArchived(name: string): Generator<Uint8Array> {
    yield* this.#tar.file(`pg_wal/archive_status/${name}.done`, new Uint8Array(0));
  }

  *#wal(checkpoint: CheckPoint): Generator<Part> {
    const { xlog_seg_size } = parseControlFile(this.#control);
    yield* this.#segmentsBefore(xlog_seg_size);
    const at = { lsn: this.#view.lsn, prev: this.#prev };
    const segments = yield* presentIn(() => stoppedWal(this.#timeline, at));
    const [first] = segments;
    const page = first!.segmentStart + first!.offset;
    // Fill in what precedes the checkpoint on its own page.
    if (this.#head.end > page) this.#head.read(page, first!.bytes, 0, this.#head.end - page);
    const tli = checkpoint.ThisTimeLineID;
    for (const earlier of tlisOfSegment(this.#walTimelines, first!.segmentStart, xlog_seg_size)) {
      if (earlier === tli) continue;
      // A walsender of the timeline before looks for the segment there.
      yield* this.#walSegment(first!, earlier, xlog_seg_size);
      yield* this.#noteArchived(walFileName(earlier, first!.segmentStart, xlog_seg_size));
    }
    for (const segment of segments) yield* this.#walSegment(segment, tli, xlog_seg_size);
  }

  *#segmentsBefore(size: number): Generator<Part> {
    for (const segment of this.#options.before ?? []) yield* this.#wholeSegment(segment, size);
  }

  /** Writes the WAL as it is, up to the LSN. The last segment ends with zeros. */
  *#recordedWal(): Generator<Part> {
    const { xlog_seg_size: size } = parseControlFile(this.#control);
    yield* this.#segmentsBefore(size);
    const start = this.#head.segmentStart;
    const length = this.#head.end - start;
    if (length <= 0) return;
    yield* this.#tar.begin(`pg_wal/${walFileName(newestTli(this.#walTimelines), start, size)}`, size);
    const pages = length - length % XLOG_BLCKSZ;
    yield* this.#walBefore(this.#head, start, pages);
    const last = new Uint8Array(length - pages);
    this.#head.read(start + pages, last, 0, last.length);
    yield* this.#tar.bytes(last);
    yield* this.#tar.zeros(size - length);
    yield* this.#tar.end(size);
  }

  /**
   * Writes a whole segment, or only the part that is not zeros: a client that wants no relation
   * files wants nothing that it can make itself.
   */
  *#walSegment(segment: CheckpointPages, tli: number, size: number): Generator<Part> {
    const { segmentStart, offset, bytes } = segment;
    const tar = this.#tar;
    const begin = this.#options.isOwnOnly === true ? Math.max(this.#head.from - segmentStart, 0) : 0;
    const first = begin - pageOffset(begin);
    const length = (this.#content === "lazy" ? offset + bytes.length : size) - first;
    const name = walFileName(tli, segmentStart, size);
    yield* tar.begin(`pg_wal/${begin === 0 ? name : cutSegmentName(name, begin)}`, length);
    yield* this.#walBefore(this.#head, segmentStart + first, offset - first);
    yield* tar.bytes(bytes);
    yield* tar.zeros(length + first - offset - bytes.length);
    yield* tar.end(length);
  }

  *#walBefore(head: WalHead, from: number, length: number): Generator<Part> {
    const tar = this.#tar;
    for (let at = 0; at < length;) {
      yield* tar.room(XLOG_BLCKSZ);
      const room = tar.chunk.length - tar.used;
      const count = Math.min(room - room % XLOG_BLCKSZ, length - at);
      head.read(from + at, tar.chunk, tar.used, count);
      tar.used += count;
      at += count;
    }
  }

  *#wholeSegment(segment: WalHead, size: number): Generator<Part> {
    const start = segment.segmentStart;
    for (const tli of tlisOfSegment(this.#walTimelines, start, size)) {
      yield* this.#tar.begin(`pg_wal/${walFileName(tli, start, size)}`, size);
      yield* this.#walBefore(segment, start, size);
      yield* this.#tar.end(size);
    }
  }
}
