/**
 * Creates the files below `pg_logical/mappings` again. They tell where the rows of a rewritten
 * catalog went, which logical decoding needs in order to see the catalog as it was. Recovery
 * creates them from the WAL. A compute starts without recovery, so this module does.
 */
import { join } from "node:path";
import { ForeignDirectory } from "../../common/foreign_directory.ts";
import type { Lsn } from "../../common/lsn.ts";
import { segmentStart } from "../../postgres/wal/page_header.ts";
import { WalDecoder } from "../../postgres/wal/decoder.ts";
import { WalError } from "../../postgres/wal/error.ts";
import { WalRecord } from "../../postgres/wal/record.ts";
import { parseHeapRewrite } from "../../postgres/wal/records/heap_rewrite.ts";
import { RM_HEAP2_ID } from "../../postgres/wal/rmgr.ts";
import { nextTurn } from "../../common/event_loop.ts";
import type { PgUser } from "../../pg_install/pg_user.ts";
import type { WalFormat } from "../../postgres/wal/wal_format.ts";
import type { ReadWal } from "./slot_wal.ts";

/** How much is read at once. It divides every segment size. */
const PIECE_BYTES = 1 << 20;

const FILE_MODE = 0o600;
/** A file in the making, in `pg_logical`. Postgres does not look at it. */
const NEW_FILE = "zenith_mapping";

interface Piece {
  readonly offset: number;
  readonly bytes: Uint8Array;
}

export interface MappingsOptions {
  readonly read: ReadWal;
  readonly pg: WalFormat;
  readonly segmentSize: number;
  /** The oldest WAL that a logical slot needs. */
  readonly from: Lsn;
  /** Where Postgres starts. */
  readonly to: Lsn;
}

/**
 * Returns the contents of the files, by their names.
 *
 * @throws {ZenithError} as `read`
 * @throws {WalError} when WAL before `to` is damaged
 */
export async function logicalMappings(options: MappingsOptions): Promise<Map<string, Uint8Array>> {
  const { read, pg, segmentSize, from, to } = options;
  const pieces = new Map<string, Piece[]>();
  const first = segmentStart(from, segmentSize);
  const decoder = new WalDecoder({
    pg,
    segmentSize,
    startLsn: first,
    findFirst: true,
    zerosAreEnd: true,
    passesOver: (rmid) => rmid !== RM_HEAP2_ID,
  });
  const record = new WalRecord();
  const end = segmentStart(to, segmentSize) + segmentSize;
  for (let at = first; at < end && !decoder.ended; at = (at + PIECE_BYTES) as Lsn) {
    decoder.feed(await read(at, PIECE_BYTES), at);
    try {
      while (decoder.next(record)) {
        // What comes after is a running Postgres's own.
        if (record.lsn >= to) return assembled(pieces);
        const rewrite = parseHeapRewrite(record);
        // Everything that is still to be decoded comes after rewrites that began before `from`.
        if (rewrite === null || rewrite.startLsn < from) continue;
        const known = pieces.get(rewrite.file) ?? [];
        known.push({ offset: rewrite.offset, bytes: rewrite.mappings.slice() });
        pieces.set(rewrite.file, known);
      }
    } catch (error) {
      // Beyond the checkpoint that Postgres starts from, there may be anything.
      if (!(error instanceof WalError) || error.lsn < to) throw error;
      break;
    }
    await nextTurn();
  }
  return assembled(pieces);
}

function assembled(pieces: ReadonlyMap<string, readonly Piece[]>): Map<string, Uint8Array> {
  return new Map([...pieces].map(([name, parts]) => [name, assemble(parts)]));
}

function assemble(parts: readonly Piece[]): Uint8Array {
  const size = Math.max(...parts.map(({ offset, bytes }) => offset + bytes.length));
  const content = new Uint8Array(size);
  for (const { offset, bytes } of parts) content.set(bytes, offset);
  return content;
}

/**
 * Writes those of the files that are not there yet. A running Postgres may use the directory, and
 * takes every file in it for whole.
 *
 * @throws {ZenithError} `disk_full`, `io`
 */
export function writeMappings(
  pgdata: string,
  files: ReadonlyMap<string, Uint8Array>,
  user: PgUser | undefined,
): void {
  using root = ForeignDirectory.open(pgdata);
  using logical = root.makeDirectory("pg_logical", user);
  using mappings = logical.makeDirectory("mappings", user);
  for (const [name, bytes] of files) {
    if (mappings.lstat(name) !== undefined) continue;
    logical.replaceFile(NEW_FILE, bytes, FILE_MODE, user, false);
    logical.moveTo(NEW_FILE, join(mappings.descriptorPath, name));
  }
}
