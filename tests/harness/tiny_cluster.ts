/**
 * The least that a page server takes for the result of initdb: a control file, the WAL record that it points at, and no relation.
 * So a tenant costs milliseconds, and WAL written by hand can go on from there.
 */
import { join } from "node:path";
import { crc32c } from "../../src/common/crc32c.ts";
import type { Disk } from "../../src/common/disk.ts";
import type { Lsn } from "../../src/common/lsn.ts";
import { type CheckPoint, encodeCheckpoint } from "../../src/postgres/cluster/checkpoint.ts";
import {
  CONTROL_FILE_PATH,
  encodeControlFile,
  PG_CONTROL_FILE_SIZE,
} from "../../src/postgres/control_file.ts";
import { BLCKSZ } from "../../src/postgres/cluster/page_layout.ts";
import { RELSEG_SIZE } from "../../src/postgres/cluster/relfile.ts";
import { SLRU_DIRECTORIES } from "../../src/postgres/cluster/slru.ts";
import type { PgVersion } from "../../src/postgres/versions/pg_version.ts";
import { V15 } from "../../src/postgres/versions/v15.ts";
import { walFileName } from "../../src/postgres/wal/page_header.ts";
import { XLOG_CHECKPOINT_SHUTDOWN } from "../../src/postgres/wal/records/xlog.ts";
import { WalBuilder } from "./wal_builder.ts";

export const TINY_SEGMENT_SIZE = 1 << 20;
const FIRST_LSN = TINY_SEGMENT_SIZE;

export interface TinyClusterOptions {
  /** 15 when left out. */
  readonly pg?: PgVersion;
  readonly dataChecksums?: boolean;
}

/** Makes `directory` such a cluster. */
export function makeTinyCluster(disk: Disk, directory: string, options: TinyClusterOptions = {}): void {
  for (const name of ["global", "base", "pg_wal", "pg_xact", "pg_multixact", ...SLRU_DIRECTORIES]) {
    disk.mkdirsSync(join(directory, name));
  }
  const { pg = V15, dataChecksums = false } = options;
  const wal = new WalBuilder({ pg, startLsn: FIRST_LSN, segmentSize: TINY_SEGMENT_SIZE });
  wal.record();
  const checkpoint: CheckPoint = {
    redo: wal.lsn,
    ThisTimeLineID: 1,
    PrevTimeLineID: 1,
    fullPageWrites: false,
    wal_level: 1,
    nextXid: 1024,
    nextOid: 20000,
    nextMulti: 1,
    nextMultiOffset: 0,
    oldestXid: 700,
    oldestXidDB: 1,
    oldestMulti: 1,
    oldestMultiDB: 1,
    time: 1_700_000_000,
    oldestCommitTsXid: 0,
    newestCommitTsXid: 0,
    oldestActiveXid: 0,
  };
  const main = encodeCheckpoint(checkpoint);
  const { lsn } = wal.record({ rmid: 0, info: XLOG_CHECKPOINT_SHUTDOWN, main });
  wal.zeros(BLCKSZ);
  write(disk, join(directory, "pg_wal", walFileName(1, FIRST_LSN as Lsn, TINY_SEGMENT_SIZE)), wal.bytes);
  const control = encodeControlFile(emptyControlFile(pg, dataChecksums), {
    state: 1,
    checkPoint: lsn,
    checkPointCopy: checkpoint,
  });
  write(disk, join(directory, CONTROL_FILE_PATH), control);
}

/** With what says which PostgreSQL and which machine it is for; offsets in ControlFileData. */
function emptyControlFile(pg: PgVersion, dataChecksums: boolean): Uint8Array {
  const bytes = new Uint8Array(PG_CONTROL_FILE_SIZE);
  const view = new DataView(bytes.buffer);
  view.setUint32(8, pg.controlVersion, true);
  view.setUint32(12, pg.catalogVersion, true);
  view.setUint32(204, 8, true);
  view.setFloat64(208, 1234567.0, true);
  view.setUint32(216, BLCKSZ, true);
  view.setUint32(220, RELSEG_SIZE, true);
  view.setUint32(224, BLCKSZ, true);
  view.setUint32(228, TINY_SEGMENT_SIZE, true);
  view.setUint32(252, dataChecksums ? 1 : 0, true);
  view.setUint32(pg.controlCrcOffset, crc32c(bytes, 0, pg.controlCrcOffset), true);
  return bytes;
}

function write(disk: Disk, path: string, content: Uint8Array): void {
  const file = disk.openSync(path, "create");
  file.writeSync(content, 0, content.length, 0);
  file.closeSync();
}
