/**
 * Creates the files below `pg_logical/mappings` again. They tell where the rows of a rewritten
 * catalog went, which logical decoding needs in order to see the catalog as it was. Recovery
 * creates them from the WAL. A compute starts without recovery, so this module does.
 */
import { ForeignDirectory } from "../../common/foreign_directory.ts";
import type { Lsn } from "../../common/lsn.ts";
import { segmentStart, WAL_TLI, walFileName } from "../../postgres/wal/page_header.ts";
import { WalDecoder } from "../../postgres/wal/decoder.ts";
import { WalError } from "../../postgres/wal/error.ts";
import { WalRecord } from "../../postgres/wal/record.ts";
import { parseHeapRewrite } from "../../postgres/wal/records/heap_rewrite.ts";
import { RM_HEAP2_ID } from "../../postgres/wal/rmgr.ts";
import { nextTurn } from "../../common/event_loop.ts";
import type { WalFormat } from "../../postgres/wal/wal_format.ts";

export interface MappingsOptions {
  readonly pgdata: string;
  readonly pg: WalFormat;
  readonly segmentSize: number;
  /** The oldest WAL that a logical slot needs. */
  readonly from: Lsn;
  /** Where Postgres starts. */
  readonly to: Lsn;
}

/**
 * Returns the contents of the files, by their path in the data directory.
 *
 * @throws {ZenithError} `io` when WAL is missing
 */
export async function logicalMappings(options: MappingsOptions): Promise<Map<string, Uint8Array>> {
  const { pgdata, pg, segmentSize, from, to } = options;
  const pieces = new Map<string, { offset: number; bytes: Uint8Array }[]>();
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
  using root = ForeignDirectory.open(pgdata);
  using wal = root.directory("pg_wal");
  for (let at = first; at < to && !decoder.ended; at = (at + segmentSize) as Lsn) {
    decoder.feed(wal.read(walFileName(WAL_TLI, at, segmentSize), segmentSize), at);
    try {
      while (decoder.next(record)) {
        const rewrite = parseHeapRewrite(record);
        // Everything that is still to be decoded comes after rewrites that began before `from`.
        if (rewrite === null || rewrite.startLsn < from) continue;
        const path = `pg_logical/mappings/${rewrite.file}`;
        const known = pieces.get(path) ?? [];
        known.push({ offset: rewrite.offset, bytes: rewrite.mappings.slice() });
        pieces.set(path, known);
      }
    } catch (error) {
      // Beyond the checkpoint that Postgres starts from, there may be anything.
      if (!(error instanceof WalError) || error.lsn < to) throw error;
      break;
    }
    await nextTurn();
  }
  return new Map([...pieces].map(([path, parts]) => [path, assemble(parts)]));
}

function assemble(parts: readonly { readonly offset: number; readonly bytes: Uint8Array }[]): Uint8Array {
  const size = Math.max(...parts.map(({ offset, bytes }) => offset + bytes.length));
  const content = new Uint8Array(size);
  for (const { offset, bytes } of parts) content.set(bytes, offset);
  return content;
}
