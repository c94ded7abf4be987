/** Uploads one timeline's WAL, and knows what of it is in the object store. */
import type { TimelineId } from "../../common/id.ts";
import { INVALID_LSN, type Lsn } from "../../common/lsn.ts";
import type { ObjectStore } from "../../object_store/object_store.ts";
import { nextRecordLsn } from "../../postgres/wal/page_header.ts";
import type { Timeline } from "../timeline/timeline.ts";
import type { TenantKeys, WalPieceName } from "./keys.ts";
import { encodeWalPiece, walParts, walRuns } from "./wal_piece.ts";

/** The most WAL of one object. */
const PIECE_BYTES = 8 << 20;

/** One timeline's WAL in the store. The newest of it with nothing missing is its run. */
export class TimelineWal {
  readonly #timelineId: TimelineId;
  /** All pieces, those of earlier generations included. */
  #pieces: WalPieceName[];
  #startLsn: Lsn;
  #endLsn: Lsn;
  /** Where the WAL of earlier generations ends. */
  #inheritedLsn: Lsn;

  /**
   * @param pieces those in the store
   * @param generation the last one that counts in full
   * @param inheritedLsn where the WAL of generations before that one ends
   */
  constructor(
    timelineId: TimelineId,
    pieces: readonly WalPieceName[],
    generation: number,
    inheritedLsn: Lsn,
  ) {
    this.#timelineId = timelineId;
    this.#pieces = [...pieces];
    const run = walRuns(walParts(pieces, generation, inheritedLsn)).at(-1);
    this.#startLsn = run?.[0]?.startLsn ?? INVALID_LSN;
    this.#endLsn = run?.at(-1)?.endLsn ?? INVALID_LSN;
    this.#inheritedLsn = this.#endLsn;
  }

  get startLsn(): Lsn {
    return this.#startLsn;
  }

  get endLsn(): Lsn {
    return this.#endLsn;
  }

  get inheritedLsn(): Lsn {
    return this.#inheritedLsn;
  }

  get pieces(): readonly WalPieceName[] {
    return this.#pieces;
  }

  /** Whether the run begins at or before the end of what is in layers, and goes on from there. */
  continues(layersEnd: Lsn, segmentSize: number): boolean {
    return this.#startLsn <= nextRecordLsn(layersEnd, segmentSize) && layersEnd <= this.#endLsn;
  }

  /** How much WAL is durable here and not in the store, in bytes. */
  behind(timeline: Timeline): number {
    return Math.max(0, durableEnd(timeline) - Math.max(this.#endLsn, timeline.wal.startLsn));
  }

  /**
   * Uploads what is durable here and not in the store.
   *
   * @param timeline held by the caller
   */
  async upload(
    timeline: Timeline,
    store: ObjectStore,
    keys: TenantKeys,
    generation: number,
  ): Promise<void> {
    const { wal, walSegmentSize: segmentSize } = timeline;
    const end = durableEnd(timeline);
    // The end of the WAL here was damaged, and was cut off. What was uploaded of it is given up.
    if (end < this.#endLsn) {
      this.#endLsn = end;
      this.#inheritedLsn = end < this.#inheritedLsn ? end : this.#inheritedLsn;
    }
    while (this.#endLsn < end) {
      // WAL that is in layers may have been removed here before it was uploaded.
      const startLsn = Math.max(this.#endLsn, wal.startLsn) as Lsn;
      const bytes = new Uint8Array(Math.min(PIECE_BYTES, end - startLsn));
      const length = wal.read(startLsn, bytes, 0, bytes.length);
      const name = { startLsn, endLsn: (startLsn + length) as Lsn, generation };
      const piece = encodeWalPiece({ startLsn, segmentSize, wal: bytes.subarray(0, length) });
      await store.put(keys.wal(this.#timelineId, name), piece);
      if (startLsn > this.#endLsn) this.#startLsn = startLsn;
      this.#endLsn = name.endLsn;
      this.#pieces.push(name);
    }
  }

  /** Forgets the pieces that end at or before `lsn`. @returns their keys */
  dropBefore(lsn: Lsn, keys: TenantKeys): string[] {
    const dropped = this.#pieces.filter(({ endLsn }) => endLsn <= lsn);
    if (dropped.length > 0) this.#pieces = this.#pieces.filter(({ endLsn }) => endLsn > lsn);
    return dropped.map((name) => keys.wal(this.#timelineId, name));
  }
}

/** Up to where a timeline's WAL is durable and will not change any more. */
function durableEnd({ wal, position }: Timeline): Lsn {
  return Math.min(wal.syncedLsn, position) as Lsn;
}
