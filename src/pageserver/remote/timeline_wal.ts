/** Uploads one timeline's WAL, and knows what of it is in the object store. */
import type { TimelineId } from "../../common/id.ts";
import { INVALID_LSN, type Lsn } from "../../common/lsn.ts";
import type { ObjectStore } from "../../object_store/object_store.ts";
import { nextRecordLsn } from "../../postgres/wal/page_header.ts";
import type { Timeline } from "../timeline/timeline.ts";
import type { TenantKeys, WalPieceName } from "./keys.ts";
import {
  cutInherited,
  encodeWalPiece,
  type InheritedWal,
  inheritParts,
  walParts,
  walRuns,
} from "./wal_piece.ts";

/** The most WAL of one object. */
const PIECE_BYTES = 8 << 20;

/** One timeline's WAL in the store. The newest of it with nothing missing is its run. */
export class TimelineWal {
  readonly #timelineId: TimelineId;
  /** Those that count, of earlier generations too. */
  #pieces: WalPieceName[];
  #startLsn: Lsn;
  #endLsn: Lsn;
  #inherited: InheritedWal;
  /** Those that did not count when this generation began: nobody will need them. */
  readonly givenUp: readonly WalPieceName[];

  /**
   * @param pieces those in the store
   * @param generation the one before, whose WAL counts in full
   * @param inherited what counts of the generations before that one
   */
  constructor(
    timelineId: TimelineId,
    pieces: readonly WalPieceName[],
    generation: number,
    inherited: InheritedWal,
  ) {
    this.#timelineId = timelineId;
    const parts = walParts(pieces, generation, inherited);
    const counted = new Set(parts.map(({ piece }) => piece));
    this.#pieces = [...counted];
    this.givenUp = pieces.filter((piece) => !counted.has(piece));
    const run = walRuns(parts).at(-1);
    this.#startLsn = run?.[0]?.startLsn ?? INVALID_LSN;
    this.#endLsn = run?.at(-1)?.endLsn ?? INVALID_LSN;
    this.#inherited = inheritParts(parts);
  }

  get startLsn(): Lsn {
    return this.#startLsn;
  }

  get endLsn(): Lsn {
    return this.#endLsn;
  }

  /** What counts of the WAL of generations before this one. */
  get inherited(): InheritedWal {
    return this.#inherited;
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
      this.#inherited = cutInherited(this.#inherited, end);
    }
    while (this.#endLsn < end) {
      // WAL that is in layers may have been removed here before it was uploaded.
      const startLsn = Math.max(this.#endLsn, wal.startLsn) as Lsn;
      const bytes = new Uint8Array(Math.min(PIECE_BYTES, end - startLsn));
      const length = wal.read(startLsn, bytes, 0, bytes.length);
      const name = { startLsn, endLsn: (startLsn + length) as Lsn, generation };
      // All of it may be in layers only.
      if (length > 0) {
        const piece = encodeWalPiece({ startLsn, segmentSize, wal: bytes.subarray(0, length) });
        await store.put(keys.wal(this.#timelineId, name), piece);
        this.#pieces.push(name);
      }
      if (startLsn > this.#endLsn) this.#startLsn = startLsn;
      this.#endLsn = name.endLsn;
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
