/** Imports a cluster made by initdb as the beginning of a timeline. */
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { assert } from "../../common/assert.ts";
import type { Disk } from "../../common/disk.ts";
import { nextTurn } from "../../common/event_loop.ts";
import { ZenithError } from "../../common/errors.ts";
import { formatLsn, type Lsn } from "../../common/lsn.ts";
import { timestampOfMs } from "../../common/timestamp.ts";
import type { TimelineStore } from "../../pagestore/mod.ts";
import { encodeCheckpoint } from "../../postgres/cluster/checkpoint.ts";
import {
  CONTROL_FILE_PATH,
  type ControlFile,
  DB_SHUTDOWNED,
  encodeControlFile,
  parseControlFile,
} from "../../postgres/control_file.ts";
import { BLCKSZ } from "../../postgres/cluster/page_layout.ts";
import {
  DEFAULTTABLESPACE_OID,
  FSM_FORKNUM,
  GLOBALTABLESPACE_OID,
  parseRelationFileName,
  RELSEG_SIZE,
} from "../../postgres/cluster/relfile.ts";
import {
  parseSlruSegmentFileName,
  SLRU_DIRECTORIES,
  SLRU_PAGES_PER_SEGMENT,
} from "../../postgres/cluster/slru.ts";
import type { PgVersion } from "../../postgres/versions/pg_version.ts";
import { WalDecoder } from "../../postgres/wal/decoder.ts";
import { nextRecordLsn, segmentOffset, walFileName } from "../../postgres/wal/page_header.ts";
import { WalRecord } from "../../postgres/wal/record.ts";
import { CommitTimes } from "../content/commit_times.ts";
import { CHECKPOINT_KEY, CONTROL_KEY, databaseKey, relmapKey, TAG_BYTES } from "../content/keys.ts";
import { RelationForks } from "../content/relation_forks.ts";
import { SingleValues } from "../content/single_values.ts";
import { SlruPages } from "../content/slru_pages.ts";

/** What the control file of a cleanly shut down cluster says about the end of its history. */
export interface ClusterEnd {
  /** The control file, with a new system identifier. */
  readonly control: Uint8Array;
  /** The cluster's major version. */
  readonly pg: PgVersion;
  readonly walSegmentSize: number;
  /** Start of the shutdown checkpoint record. */
  readonly checkpointLsn: Lsn;
  /** Start of the record before it. */
  readonly prevLsn: Lsn;
  /** Its end: where a compute's WAL begins. */
  readonly endLsn: Lsn;
}

/**
 * Reads the control file of a cluster that initdb has just made. All tenants start from the same
 * initdb, so each gets a new system identifier. No tenant's WAL can then be mistaken for another's.
 *
 * @throws {ZenithError} `conflict` when the cluster was not shut down cleanly
 */
export function readClusterEnd(disk: Disk, dataDirectory: string): ClusterEnd {
  const bytes = disk.readFileSync(join(dataDirectory, CONTROL_FILE_PATH));
  const control = parseControlFile(bytes);
  if (control.state !== DB_SHUTDOWNED) {
    throw new ZenithError("conflict", `the cluster in ${dataDirectory} was not shut down cleanly`);
  }
  const { endLsn, prevLsn } = readCheckpointRecord(disk, dataDirectory, control);
  return {
    control: encodeControlFile(bytes, { system_identifier: newSystemIdentifier() }),
    pg: control.pg,
    walSegmentSize: control.xlog_seg_size,
    checkpointLsn: control.checkPoint,
    prevLsn,
    endLsn,
  };
}

function readCheckpointRecord(
  disk: Disk,
  dataDirectory: string,
  control: ControlFile,
): { endLsn: Lsn; prevLsn: Lsn } {
  const { checkPoint, xlog_seg_size: segmentSize } = control;
  const name = walFileName(control.checkPointCopy.ThisTimeLineID, checkPoint, segmentSize);
  const segment = disk.readFileSync(join(dataDirectory, "pg_wal", name));
  const decoder = new WalDecoder({ pg: control.pg, startLsn: checkPoint, segmentSize });
  decoder.feed(segment.subarray(segmentOffset(checkPoint, segmentSize)), checkPoint);
  const record = new WalRecord();
  if (!decoder.next(record)) {
    throw new ZenithError("corrupt_data", `${name} ends within the checkpoint at ${formatLsn(checkPoint)}`);
  }
  return { endLsn: record.endLsn as Lsn, prevLsn: record.xl_prev as Lsn };
}

/**
 * Builds the identifier as PostgreSQL does: the creation time in seconds in the upper half, random
 * bits in the lower half.
 */
function newSystemIdentifier(): bigint {
  const seconds = BigInt(Math.floor(Date.now() / 1000));
  return (seconds << 32n) | BigInt(randomBytes(4).readUInt32LE(0));
}

/** After this many bytes, the import yields to other work. */
const TURN_BYTES = 256 << 10;

/** The files of `base/<db>` and `global` that hold no relation. */
const RELMAP_FILE = "pg_filenode.map";

/**
 * Stores the content of a data directory as of `end.endLsn`, where the timeline's history begins.
 * `store` must have been created at `end.checkpointLsn`.
 */
export async function importCluster(
  disk: Disk,
  dataDirectory: string,
  end: ClusterEnd,
  store: TimelineStore,
): Promise<void> {
  await new ClusterImport(disk, dataDirectory, end, store).run();
}

class ClusterImport {
  readonly #disk: Disk;
  readonly #dir: string;
  readonly #end: ClusterEnd;
  readonly #store: TimelineStore;
  readonly #forks: RelationForks;
  readonly #values: SingleValues;

  constructor(disk: Disk, dir: string, end: ClusterEnd, store: TimelineStore) {
    this.#disk = disk;
    this.#dir = dir;
    this.#end = end;
    this.#store = store;
    this.#forks = new RelationForks(store);
    this.#values = new SingleValues(store);
  }

  async run(): Promise<void> {
    const lsn = this.#end.endLsn;
    this.#store.noteRecord(this.#end.prevLsn);
    this.#store.noteRecord(this.#end.checkpointLsn);
    this.#values.put(CONTROL_KEY, lsn, this.#end.control);
    const checkpoint = parseControlFile(this.#end.control).checkPointCopy;
    this.#values.put(CHECKPOINT_KEY, lsn, encodeCheckpoint(checkpoint));
    new CommitTimes(this.#store).note(timestampOfMs(checkpoint.time * 1000), lsn);
    await this.#directory("global", GLOBALTABLESPACE_OID, 0);
    for (const name of this.#disk.readdirSync(join(this.#dir, "base"))) {
      const db = Number(name);
      assert(Number.isInteger(db), "initdb leaves only databases in base/");
      this.#values.put(databaseKey(DEFAULTTABLESPACE_OID, db), lsn, Uint8Array.of(1));
      await this.#directory(join("base", name), DEFAULTTABLESPACE_OID, db);
    }
    this.#forks.save(lsn);
    this.#slrus();
    this.#store.advance(lsn);
  }

  async #directory(directory: string, spc: number, db: number): Promise<void> {
    let takenBytes = 0;
    for (const name of this.#disk.readdirSync(join(this.#dir, directory))) {
      const path = join(this.#dir, directory, name);
      if (name === RELMAP_FILE) {
        this.#values.put(relmapKey(spc, db), this.#end.endLsn, this.#disk.readFileSync(path));
        continue;
      }
      const file = parseRelationFileName(name);
      if (file === undefined || file.temporary || file.forkNum === FSM_FORKNUM) continue;
      const fork = this.#forks.get(spc, db, file.relNode, file.forkNum);
      this.#forks.create(fork, this.#end.endLsn);
      const bytes = this.#wholePages(path);
      const first = file.segno * RELSEG_SIZE;
      const blocks = bytes.length / BLCKSZ;
      for (let i = 0; i < blocks; i++) {
        this.#store.put(fork.slot, first + i, this.#end.endLsn, bytes, i * BLCKSZ, BLCKSZ, TAG_BYTES, true);
      }
      this.#forks.extend(fork, first + blocks, this.#end.endLsn);
      takenBytes += bytes.length;
      if (takenBytes < TURN_BYTES) continue;
      takenBytes = 0;
      await nextTurn();
    }
  }

  #slrus(): void {
    const slru = new SlruPages(this.#store);
    SLRU_DIRECTORIES.forEach((directory, id) => {
      for (const name of this.#disk.readdirSync(join(this.#dir, directory))) {
        const segment = parseSlruSegmentFileName(name);
        if (segment === undefined) continue;
        const bytes = this.#wholePages(join(this.#dir, directory, name));
        for (let at = 0; at < bytes.length; at += BLCKSZ) {
          const page = segment * SLRU_PAGES_PER_SEGMENT + at / BLCKSZ;
          slru.putImage(id, page, this.#end.endLsn, bytes.subarray(at, at + BLCKSZ));
        }
      }
    });
  }

  #wholePages(path: string): Uint8Array {
    const bytes = this.#disk.readFileSync(path);
    if (bytes.length % BLCKSZ !== 0) {
      throw new ZenithError(
        "corrupt_data",
        `${path} has ${bytes.length} bytes, which is not a whole number of pages`,
      );
    }
    return bytes;
  }
}

/** Returns where a compute on the imported cluster writes its first record. */
export function firstPosition(end: ClusterEnd): Lsn {
  return nextRecordLsn(end.endLsn, end.walSegmentSize);
}
