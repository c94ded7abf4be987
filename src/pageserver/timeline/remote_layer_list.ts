/**
 * The list of a timeline's layers that need not be on this disk, because the object store has them.
 * docs/formats/small_files.md is the specification.
 */
import { join } from "node:path";
import type { Disk } from "../../common/disk.ts";
import { withIoErrors, ZenithError } from "../../common/errors.ts";
import { isIdFileName, parseTenantId } from "../../common/id.ts";
import { type PageServerPaths, REMOTE_LAYERS_FILE } from "../../common/paths.ts";
import { SmallFile, type SmallFormat } from "../../common/small_file.ts";
import { layerPath } from "../../pagestore/mod.ts";

/** A layer in the object store. */
export interface RemoteLayer {
  readonly number: number;
  /** The generation that has uploaded it. */
  readonly generation: number;
  readonly sizeBytes: number;
  /** The CRC-32C of all its bytes. */
  readonly crc: number;
}

export interface RemoteLayerList {
  /** The URL of the store that has them. */
  readonly store: string;
  readonly layers: readonly RemoteLayer[];
}

export const REMOTE_LAYERS_FORMAT: SmallFormat<RemoteLayerList> = {
  title: "zenith remote layers",
  encode: ({ store, layers }) => [
    `store ${store}`,
    ...layers.map(({ number, generation, sizeBytes, crc }) =>
      `layer ${number} ${generation} ${sizeBytes} ${crc}`
    ),
  ],
  decode: ([first = "", ...lines]) => {
    if (!first.startsWith("store ")) {
      throw new ZenithError("corrupt_data", "the line of the store is missing");
    }
    return { store: first.slice("store ".length), layers: lines.map(parseLayer) };
  },
};

function parseLayer(line: string): RemoteLayer {
  const match = /^layer (\d{1,10}) (\d{1,10}) (\d{1,15}) (\d{1,10})$/.exec(line);
  if (match === null) throw new ZenithError("corrupt_data", `"${line.slice(0, 100)}" is no layer`);
  const [number, generation, sizeBytes, crc] = match.slice(1).map(Number);
  return { number: number!, generation: generation!, sizeBytes: sizeBytes!, crc: crc! };
}

/** The list in a timeline's directory. */
export function remoteLayerList(disk: Disk, directory: string): SmallFile<RemoteLayerList> {
  return new SmallFile(disk, join(directory, REMOTE_LAYERS_FILE), REMOTE_LAYERS_FORMAT);
}

/**
 * Returns the URL of a store, other than `url`, that has layers which are missing on this disk.
 * Null when there is none.
 *
 * @throws {ZenithError} `corrupt_data`, `io`
 */
export function otherStoreNeeded(disk: Disk, paths: PageServerPaths, url: string): string | null {
  const idsIn = (directory: string): string[] =>
    withIoErrors(
      "list",
      directory,
      () => disk.statSync(directory) === null ? [] : disk.readdirSync(directory).filter(isIdFileName),
    );
  for (const tenant of idsIn(paths.tenants)) {
    const timelines = paths.timelines(parseTenantId(tenant));
    for (const timeline of idsIn(timelines)) {
      const directory = join(timelines, timeline);
      const list = remoteLayerList(disk, directory).read();
      const isMissing = ({ number }: RemoteLayer) => disk.statSync(layerPath(directory, number)) === null;
      if (list !== null && list.store !== url && list.layers.some(isMissing)) return list.store;
    }
  }
  return null;
}

/**
 * Returns the numbers of a timeline's layers that need not be on this disk.
 *
 * @throws {ZenithError} `corrupt_data`, `io`
 */
export function remoteLayerNumbers(disk: Disk, directory: string): ReadonlySet<number> {
  return new Set(remoteLayerList(disk, directory).read()?.layers.map(({ number }) => number));
}
