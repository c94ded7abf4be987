/** Reads a timeline's WAL back from the object store, also what layers have replaced. */
import { ZenithError } from "../../common/errors.ts";
import type { TenantId, TimelineId } from "../../common/id.ts";
import { formatLsn, type Lsn } from "../../common/lsn.ts";
import { isFailure, listAll, type ObjectStore } from "../../object_store/object_store.ts";
import { parseTenantKey, TenantKeys, type WalPieceName } from "./keys.ts";
import { readCurrentManifest } from "./remote_state.ts";
import { decodeWalPiece, type WalPart, walParts, walRuns } from "./wal_piece.ts";

/** How many pieces are fetched ahead. Most are short. */
const AHEAD = 8;

/**
 * Yields WAL from `from` to `until`, in parts of any size.
 *
 * @throws {ZenithError} `not_found` when the store does not have the timeline; `out_of_range` when
 *   it does not have all of that WAL, or not any more; `corrupt_data`, and the store's errors
 */
export async function* readStoredWal(
  store: ObjectStore,
  tenantId: TenantId,
  timelineId: TimelineId,
  from: Lsn,
  until: Lsn,
): AsyncGenerator<Uint8Array> {
  const parts = await findParts(store, tenantId, timelineId, from, until);
  const keys = new TenantKeys(tenantId);
  const fetching: Promise<Uint8Array>[] = [];
  const fetch = async ({ piece, startLsn, endLsn }: WalPart): Promise<Uint8Array> => {
    const key = keys.wal(timelineId, piece);
    try {
      const { wal } = decodeWalPiece(await store.get(key), piece, `${store.url}/${key}`);
      const first = Math.max(startLsn, from);
      return wal.subarray(first - piece.startLsn, Math.min(endLsn, until) - piece.startLsn);
    } catch (error) {
      if (!isFailure(error, "absent")) throw error;
      throw new ZenithError("out_of_range", `WAL from ${formatLsn(startLsn)} on was removed meanwhile`, {
        cause: error,
      });
    }
  };
  for (let next = 0; next < parts.length || fetching.length > 0;) {
    while (fetching.length < AHEAD && next < parts.length) {
      const fetched = fetch(parts[next++]!);
      // It is awaited in its turn, or not at all when the reader leaves.
      fetched.catch(() => {});
      fetching.push(fetched);
    }
    yield await fetching.shift()!;
  }
}

/** The parts that have that WAL, with nothing missing between them. */
async function findParts(
  store: ObjectStore,
  tenantId: TenantId,
  timelineId: TimelineId,
  from: Lsn,
  until: Lsn,
): Promise<WalPart[]> {
  const manifest = await readCurrentManifest(store, tenantId);
  const entry = manifest?.timelines.get(timelineId);
  if (manifest === null || entry === undefined) {
    throw new ZenithError("not_found", `${store.url} has no timeline ${timelineId}`);
  }
  const keys = new TenantKeys(tenantId);
  const pieces: WalPieceName[] = [];
  for await (const { key } of listAll(store, `${keys.timeline(timelineId)}wal/`)) {
    const object = parseTenantKey(key.slice(keys.folder.length));
    if (object?.kind === "wal") pieces.push(object.name);
  }
  const runs = walRuns(walParts(pieces, manifest.version.generation, entry.inherited));
  const run = runs.find((parts) => parts[0]!.startLsn <= from && parts.at(-1)!.endLsn >= until);
  if (run !== undefined) return run.filter(({ startLsn, endLsn }) => endLsn > from && startLsn < until);
  const there = runs.map((parts) => `${formatLsn(parts[0]!.startLsn)} to ${formatLsn(parts.at(-1)!.endLsn)}`);
  throw new ZenithError(
    "out_of_range",
    `${store.url} does not have WAL from ${formatLsn(from)} to ${
      formatLsn(until)
    } of timeline ${timelineId}: ` +
      (there.length === 0 ? "it has none" : `it has ${there.slice(-3).join(", ")}`),
    { hint: "wal_retention_s in pageserver.toml says how long WAL stays there" },
  );
}
