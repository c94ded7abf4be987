/**
 * Takes in the files of a base backup or of a stopped cluster, in whatever order they come, as the
 * first versions of a timeline. Nothing is held whole but small files.
 */
import { ZenithError } from "../../common/errors.ts";
import { lsn as toLsn } from "../../common/lsn.ts";
import { type TimelineStore } from "../../pagestore/mod.ts";
import { type BackupFile, backupFile, ORIGINS_FILE } from "../../postgres/cluster/backup_files.ts";
import { BLCKSZ } from "../../postgres/cluster/page_layout.ts";
import {
  FSM_FORKNUM,
  INIT_FORKNUM,
  MAIN_FORKNUM,
  RELSEG_SIZE,
  VISIBILITYMAP_FORKNUM,
} from "../../postgres/cluster/relfile.ts";
import { parseReplicationOrigins } from "../../postgres/cluster/replication_origins.ts";
import { SLRU_PAGES_PER_SEGMENT } from "../../postgres/cluster/slru.ts";
import type { TarEntry, TarHandler } from "../../protocol/tar.ts";
import { decodeTablespaceMap } from "../../protocol/tablespace_map.ts";
import {
  databaseKey,
  KIND_RELATION,
  relmapKey,
  reploriginKey,
  tablespaceKey,
  TAG_BYTES,
  twophaseKey,
} from "../content/keys.ts";
import { type RelationFork, RelationForks } from "../content/relation_forks.ts";
import { SingleValues } from "../content/single_values.ts";
import { SlruPages } from "../content/slru_pages.ts";
import { isZero, PageCutter } from "../content/page_cutter.ts";
import { DATABASE_PRESENT } from "./files.ts";

/**
 * The versions of so many bytes get one LSN. The page store can write out only what is complete up
 * to an LSN.
 */
const BATCH_BYTES = 1 << 20;

/** Files that are taken in whole must not be longer. The longest is a two-phase state file. */
const WHOLE_FILE_MAX_BYTES = 64 << 20;

/** An LSN after every version. */
const AFTER_ALL = Number.MAX_SAFE_INTEGER;

const NO_BYTES = new Uint8Array(0);

/** Where the WAL of a backup goes until all files are there. */
export interface WalFiles {
  begin(name: string): void;
  content(bytes: Uint8Array): void;
  end(): void;
}

/** The files that say what the others are. */
export interface ClusterFacts {
  readonly control: Uint8Array;
  /** Null for a cluster that was stopped, not backed up. */
  readonly label: Uint8Array | null;
  /** The content of PG_VERSION. Null when it was not there. */
  readonly version: string | null;
}

/** What is done with the file that is arriving. */
interface Sink {
  content(bytes: Uint8Array): void;
  end(): void;
}

const IGNORE: Sink = { content() {}, end() {} };

/**
 * The pages are a backup's, so they are of different moments. Only WAL tells which LSNs they are
 * right at, so their own LSNs here are small numbers that no record has: 1, 2, 3, …
 */
export class BaseFiles implements TarHandler {
  readonly #store: TimelineStore;
  readonly #forks: RelationForks;
  readonly #values: SingleValues;
  readonly #slru: SlruPages;
  readonly #wal: WalFiles;
  readonly #seen = new Set<string>();
  readonly #databases = new Set<string>();
  #sink: Sink = IGNORE;
  #lsn: number;
  #batchBytes = 0;
  #contentBytes = 0;
  #control: Uint8Array | null = null;
  #label: Uint8Array | null = null;
  #version: string | null = null;

  /**
   * @param store a new one without versions
   * @param firstLsn of the first versions
   */
  constructor(store: TimelineStore, wal: WalFiles, firstLsn: number) {
    this.#store = store;
    this.#forks = new RelationForks(store);
    this.#values = new SingleValues(store);
    this.#slru = new SlruPages(store);
    this.#wal = wal;
    this.#lsn = firstLsn;
  }

  /** How many bytes of relations and SLRUs have been taken in. */
  get contentBytes(): number {
    return this.#contentBytes;
  }

  begin({ name, type }: TarEntry): void {
    this.#sink = IGNORE;
    if (/^PG_\d+_\d+(?:\/|$)/.test(name)) {
      throw new ZenithError("not_implemented", `${name} is of a tablespace, and nothing says of which`, {
        hint: "take a base backup by pg_basebackup, and import its directory",
      });
    }
    if (type === "directory") return;
    const file = backupFile(name);
    if (file.kind === "other") return;
    if (this.#seen.has(name)) {
      throw new ZenithError("corrupt_data", `${name} comes twice: these are the files of two clusters`);
    }
    // Relations are too many to remember, and a second cluster has a second pg_control.
    if (file.kind !== "relation") this.#seen.add(name);
    this.#sink = this.#sinkOf(name, file);
  }

  content(bytes: Uint8Array): void {
    this.#sink.content(bytes);
  }

  /** Takes in that a file of a relation is so long. Its pages come by themselves. */
  relationOfSize({ spc, db, file }: BackupFile & { readonly kind: "relation" }, bytes: number): void {
    this.#noteDatabase(spc, db);
    const fork = this.#forks.get(spc, db, file.relNode, file.forkNum);
    this.#forks.create(fork, this.#lsn);
    this.#forks.extend(fork, file.segno * RELSEG_SIZE + bytes / BLCKSZ, this.#lsn);
    this.#contentBytes += bytes;
  }

  end(): void {
    this.#sink.end();
    this.#sink = IGNORE;
  }

  /**
   * Completes the base once all files are there.
   *
   * @throws {ZenithError} `corrupt_data` when there is no control file
   */
  finish(): ClusterFacts {
    if (this.#control === null) {
      throw new ZenithError("corrupt_data", "there is no global/pg_control: this is not a whole cluster");
    }
    this.#resetUnlogged();
    this.#completeBatch();
    return { control: this.#control, label: this.#label, version: this.#version };
  }

  #sinkOf(name: string, file: BackupFile): Sink {
    switch (file.kind) {
      case "relation": {
        const { file: { relNode, forkNum, segno, temporary } } = file;
        this.#noteDatabase(file.spc, file.db);
        // Zenith builds free space maps anew, and temporary relations end with their session.
        if (temporary || forkNum === FSM_FORKNUM) return IGNORE;
        return this.#relation(
          name,
          this.#forks.get(file.spc, file.db, relNode, forkNum),
          segno * RELSEG_SIZE,
        );
      }
      case "slru":
        return this.#slruSegment(name, file.slru, file.segment);
      case "wal":
        this.#wal.begin(file.name);
        return this.#wal;
      case "other":
        return IGNORE;
      default:
        return this.#whole(name, (bytes) => this.#takeWhole(file, bytes));
    }
  }

  #takeWhole(file: BackupFile, bytes: Uint8Array): void {
    switch (file.kind) {
      case "control":
        this.#control = bytes;
        break;
      case "label":
        this.#label = bytes;
        break;
      case "version":
        this.#version = new TextDecoder().decode(bytes).trim();
        break;
      case "database":
        this.#noteDatabase(file.spc, file.db);
        break;
      case "relmap":
        this.#noteDatabase(file.spc, file.db);
        this.#values.put(relmapKey(file.spc, file.db), this.#lsn, bytes);
        break;
      case "tablespaces":
        for (const [oid, location] of decodeTablespaceMap(bytes)) {
          this.#values.put(tablespaceKey(oid), this.#lsn, new TextEncoder().encode(location));
        }
        break;
      case "twophase":
        this.#values.put(twophaseKey(file.xid), this.#lsn, bytes);
        break;
      case "origins":
        for (const [origin, remoteLsn] of parseReplicationOrigins(bytes, ORIGINS_FILE)) {
          this.#values.put(reploriginKey(origin), this.#lsn, remoteLsn);
        }
        break;
    }
  }

  #noteDatabase(spc: number, db: number): void {
    const name = `${spc}/${db}`;
    if (db === 0 || this.#databases.has(name)) return;
    this.#databases.add(name);
    this.#values.put(databaseKey(spc, db), this.#lsn, DATABASE_PRESENT);
  }

  /** Collects a small file. */
  #whole(name: string, take: (bytes: Uint8Array) => void): Sink {
    const parts: Uint8Array[] = [];
    let length = 0;
    return {
      content: (bytes) => {
        length += bytes.length;
        if (length > WHOLE_FILE_MAX_BYTES) {
          throw new ZenithError("corrupt_data", `${name} has more than ${WHOLE_FILE_MAX_BYTES} bytes`);
        }
        parts.push(bytes.slice());
      },
      end: () => take(Buffer.concat(parts)),
    };
  }

  #relation(name: string, fork: RelationFork, firstBlock: number): Sink {
    this.#forks.create(fork, this.#lsn);
    let block = firstBlock;
    return this.#pages(name, (bytes, off) => {
      const value = isZero(bytes, off) ? NO_BYTES : bytes.subarray(off, off + BLCKSZ);
      this.#store.putValue(fork.slot, block++, this.#lsn, value, TAG_BYTES, true);
    }, () => this.#forks.extend(fork, block, this.#lsn));
  }

  #slruSegment(name: string, slru: number, segment: number): Sink {
    let page = segment * SLRU_PAGES_PER_SEGMENT;
    return this.#pages(
      name,
      (bytes, off) => this.#slru.putImage(slru, page++, this.#lsn, bytes.subarray(off, off + BLCKSZ)),
      () => {},
    );
  }

  /**
   * Cuts a file into pages.
   *
   * @param done called before the batch ends that has the file's last pages so far
   */
  #pages(name: string, put: (bytes: Uint8Array, off: number) => void, done: () => void): Sink {
    const cutter = new PageCutter(name);
    return {
      content: (bytes) => {
        cutter.push(bytes, put);
        this.#note(bytes.length, done);
      },
      end: () => {
        cutter.finish();
        done();
      },
    };
  }

  #note(bytes: number, done: () => void): void {
    this.#contentBytes += bytes;
    this.#batchBytes += bytes;
    if (this.#batchBytes < BATCH_BYTES) return;
    done();
    this.#completeBatch();
  }

  #completeBatch(): void {
    this.#batchBytes = 0;
    this.#forks.save(this.#lsn);
    this.#store.advance(toLsn(this.#lsn));
    this.#lsn++;
  }

  /** An unlogged relation begins as its init fork, as after a crash. */
  #resetUnlogged(): void {
    for (const { kind, a, b, c, d } of this.#store.objects({ kind: KIND_RELATION }, AFTER_ALL)) {
      if (kind !== KIND_RELATION || d !== INIT_FORKNUM) continue;
      for (const fork of [MAIN_FORKNUM, VISIBILITYMAP_FORKNUM]) {
        this.#forks.drop(this.#forks.get(a, b, c, fork), this.#lsn);
      }
    }
  }
}
