/** Unpacks what backups and WAL archives are compressed with. */
import { PassThrough, pipeline, Readable, type Transform } from "node:stream";
import { createGunzip, createInflate, createZstdDecompress } from "node:zlib";
import { unpackBzip2 } from "./bzip2.ts";
import { LZ4_MAGIC, unpackLz4 } from "./lz4_frame.ts";

/** By the extension of a file's name, without the dot. */
export const COMPRESSIONS = ["gz", "lz4", "zst", "bz2"] as const;
export type Compression = typeof COMPRESSIONS[number] | "none";

const GZIP_MAGIC = 0x8b1f;
const ZSTD_MAGIC = 0xfd2fb528;
/** "BZh" and a digit. */
const BZIP2_START = /^BZh[1-9]/;

const READ_BYTES = 256 << 10;
/** Large pieces: each is handed on by itself. */
const CHUNKS = { chunkSize: READ_BYTES };

/** The compression that the first bytes of a file show. */
export function compressionOf(first: Uint8Array): Compression {
  const view = new DataView(first.buffer, first.byteOffset, first.length);
  if (view.byteLength >= 2 && view.getUint16(0, true) === GZIP_MAGIC) return "gz";
  if (view.byteLength < 4) return "none";
  const magic = view.getUint32(0, true);
  if (magic === LZ4_MAGIC) return "lz4";
  if (magic === ZSTD_MAGIC) return "zst";
  return BZIP2_START.test(String.fromCharCode(...first.subarray(0, 4))) ? "bz2" : "none";
}

/**
 * Unpacks a source, and closes it when its reader stops early.
 *
 * @param withoutHeader whether gz is the format of zlib, as in pgBackRest's bundles
 * @throws {Error} when it is damaged or cut short; of zst, some runtimes take what is there
 */
export async function* decompress(
  source: AsyncIterable<Uint8Array>,
  compression: Compression,
  withoutHeader = false,
): AsyncGenerator<Uint8Array> {
  const input = source[Symbol.asyncIterator]();
  try {
    yield* unpack({ [Symbol.asyncIterator]: () => input }, compression, withoutHeader);
  } finally {
    await input.return?.();
  }
}

/** {@link decompress} by what the first bytes say. @throws {Error} likewise */
export async function* decompressAny(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const input = source[Symbol.asyncIterator]();
  try {
    const first = await input.next();
    if (first.done === true) return;
    yield* unpack(prepend(first.value, input), compressionOf(first.value), false);
  } finally {
    await input.return?.();
  }
}

function unpack(
  source: AsyncIterable<Uint8Array>,
  compression: Compression,
  withoutHeader: boolean,
): AsyncIterable<Uint8Array> {
  switch (compression) {
    case "none":
      return source;
    case "lz4":
      return unpackLz4(source);
    case "bz2":
      return unpackBzip2(source);
    case "gz":
      return through(source, withoutHeader ? createInflate(CHUNKS) : createGunzip(CHUNKS));
    case "zst":
      return through(source, createZstdDecompress(CHUNKS));
  }
}

async function* prepend(
  first: Uint8Array,
  rest: AsyncIterator<Uint8Array>,
): AsyncGenerator<Uint8Array> {
  yield first;
  for (;;) {
    const { done, value } = await rest.next();
    if (done === true) return;
    yield value;
  }
}

function through(source: AsyncIterable<Uint8Array>, unpack: Transform): AsyncIterable<Uint8Array> {
  const out = new PassThrough({ highWaterMark: READ_BYTES });
  pipeline(Readable.from(source, { objectMode: false }), unpack, out, () => {});
  return out;
}
