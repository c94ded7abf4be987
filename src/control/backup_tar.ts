/** Reads the files of a backup from a tar, compressed or not. */
import { createReadStream, statSync } from "node:fs";
import { pipeline, Readable } from "node:stream";
import { extract } from "tar-stream";
import { decompressAny } from "../archive/compression/decompress.ts";
import { errorMessage, ZenithError } from "../common/errors.ts";
import type { SourceFile } from "./source_file.ts";

/** The name of a tar that pg_basebackup writes. */
export const TAR_NAME = /^(?:base|pg_wal|[1-9]\d{0,9})\.tar(?:\.(?:gz|lz4|zst))?$/;

const READ_BYTES = 256 << 10;

/** @param prefix the directory that the names are relative to, with a slash at its end, or "" */
export function readTarFile(path: string, prefix: string): AsyncGenerator<SourceFile> {
  const stat = statSync(path, { throwIfNoEntry: false });
  if (stat === undefined || stat.isDirectory()) {
    throw new ZenithError("invalid_argument", `${path} is not a file`);
  }
  return readTar(createReadStream(path, { highWaterMark: READ_BYTES }), path, prefix);
}

/**
 * Yields the files of a tar. Its compression is recognized by its first bytes.
 *
 * @param where what it is, for messages
 * @throws {ZenithError} `corrupt_data` when it is damaged or cut short
 */
export async function* readTar(source: Readable, where: string, prefix = ""): AsyncGenerator<SourceFile> {
  const unpacked = extract();
  const plain = Readable.from(decompressAny(source), { objectMode: false, highWaterMark: READ_BYTES });
  pipeline(plain, unpacked as unknown as NodeJS.WritableStream, () => {});
  try {
    for await (const entry of unpacked) {
      const { type, name, size } = entry.header;
      if (type === "file" || type === "contiguous-file") {
        const content = contentOf(entry as unknown as AsyncIterable<Uint8Array>, where);
        yield { name: prefix + name.replace(/^\.\//, ""), size, content };
      }
      entry.resume();
    }
  } catch (error) {
    throw unreadable(where, error);
  } finally {
    source.destroy();
  }
}

async function* contentOf(entry: AsyncIterable<Uint8Array>, where: string): AsyncGenerator<Uint8Array> {
  try {
    yield* entry;
  } catch (error) {
    throw unreadable(where, error);
  }
}

function unreadable(where: string, error: unknown): ZenithError {
  const message = `${where} can't be read as a tar: ${errorMessage(error)}`;
  return new ZenithError("corrupt_data", message, { cause: error });
}
