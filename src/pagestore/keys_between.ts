/** Finds the keys of a timeline that have versions in a range of LSNs. */
import { nextTurn } from "../common/event_loop.ts";
import { AbsentBytes, whenPresent } from "./layer/absent_bytes.ts";
import { LayerCursor } from "./layer/layer_cursor.ts";
import type { LayerReader } from "./layer/layer_reader.ts";
import type { ObjectId } from "./value/object_id.ts";
import { ValueChain } from "./value/value_chain.ts";

/** After this many milliseconds, the walk yields to other work in this thread. */
const TURN_MS = 5;

/** A range of LSNs: above `after`, at or below `upTo`. */
export interface LsnRange {
  readonly after: number;
  readonly upTo: number;
}

/** What the walk needs from a timeline. */
export interface LayerSource {
  /** As {@link TimelineStore.holdLayers} describes it. */
  holdLayers(range: LsnRange): Promise<Disposable & { readonly readers: readonly LayerReader[] }>;
  slot(object: ObjectId): number;
}

/**
 * Visits every key of the timeline itself that has a version in the range, some more than once. It
 * reads only layer files, so that a long walk keeps nothing in memory; what is in memory is written
 * out first. Of a layer that lies wholly in the range, it reads only the keys.
 *
 * @param wants selects the objects whose keys are visited
 * @throws {ZenithError} `corrupt_data`, `io`; as {@link LayerSource.holdLayers}; `signal`'s reason
 */
export async function forEachKeyBetween(
  store: LayerSource,
  range: LsnRange,
  wants: (object: ObjectId) => boolean,
  visit: (object: ObjectId, block: number) => void,
  signal: AbortSignal,
): Promise<void> {
  using held = await store.holdLayers(range);
  const chain = new ValueChain();
  let turnEnds = performance.now() + TURN_MS;
  for (const reader of held.readers) {
    const { startLsn, endLsn } = reader.info;
    const isWithin = startLsn >= range.after && endLsn <= range.upTo;
    const cursor = await whenPresent(() => new LayerCursor(reader), signal);
    while (!cursor.done) {
      const { object, block } = cursor;
      let absent: AbsentBytes | null = null;
      try {
        if (wants(object) && (isWithin || hasVersion(reader, store.slot(object), block, range, chain))) {
          visit(object, block);
        }
        cursor.nextKey();
      } catch (error) {
        if (!(error instanceof AbsentBytes)) throw error;
        absent = error;
      }
      if (absent !== null) await absent.arrive(signal);
      else if (performance.now() < turnEnds) continue;
      await nextTurn();
      signal.throwIfAborted();
      turnEnds = performance.now() + TURN_MS;
    }
  }
}

function hasVersion(
  reader: LayerReader,
  slot: number,
  block: number,
  { after, upTo }: LsnRange,
  chain: ValueChain,
): boolean {
  chain.clear();
  // The newest version at or below `upTo` is enough.
  reader.collect(slot, block, upTo, upTo, chain);
  return chain.count > 0 && chain.lsn[0] > after;
}
