import assert from "node:assert/strict";
import { Readable } from "node:stream";
import { describe, test } from "node:test";
import { extract } from "tar-stream";
import { TarWriter } from "../../../../src/pageserver/service/tar_writer.ts";
import { type TarEntry, type TarHandler, TarReader, writeTarHeader } from "../../../../src/protocol/tar.ts";
import { Random, seeds } from "../../../harness/random.ts";

interface Found {
  readonly name: string;
  readonly type: string;
  readonly content: Uint8Array;
}

/** Sizes around the borders of a block and of a chunk, and what a name may be long. */
const SIZES = [0, 1, 511, 512, 513, 1023, 1024, 4096, 8191, 8192, 10_000];
const LONGEST_NAME = 100;
const CHUNK_BYTES = 1536;

function makeFiles(random: Random): Found[] {
  return Array.from({ length: 40 }, (_, i) => {
    if (random.int(5) === 0) return { name: `d${i}`, type: "directory", content: new Uint8Array(0) };
    const content = new Uint8Array(SIZES[random.int(SIZES.length)]).fill(i + 1);
    return { name: `f${i}`.padEnd(4 + random.int(LONGEST_NAME - 3), "x"), type: "file", content };
  });
}

/** The archive, of chunks that are overwritten when the next one is asked for. */
function* archive(files: readonly Found[]): Generator<Uint8Array> {
  const tar = new TarWriter(CHUNK_BYTES);
  for (const { name, type, content } of files) {
    if (type === "directory") yield* tar.directory(name);
    else yield* tar.file(name, content);
  }
  yield* tar.finish();
}

function whole(files: readonly Found[]): Uint8Array {
  const chunks: Uint8Array[] = [];
  for (const chunk of archive(files)) {
    assert.ok(chunk.length <= CHUNK_BYTES);
    chunks.push(chunk.slice());
  }
  return Buffer.concat(chunks);
}

/** Keeps what a reader finds. */
class Collector implements TarHandler {
  readonly found: Found[] = [];
  #entry: TarEntry | undefined;
  #content: Uint8Array[] = [];

  begin(entry: TarEntry): void {
    assert.equal(this.#entry, undefined);
    this.#entry = entry;
    this.#content = [];
  }

  content(bytes: Uint8Array): void {
    this.#content.push(bytes.slice());
  }

  end(): void {
    const { name, type } = this.#entry!;
    this.found.push({ name, type, content: new Uint8Array(Buffer.concat(this.#content)) });
    this.#entry = undefined;
  }
}

function read(bytes: Uint8Array, pieceBytes: number): Found[] {
  const collector = new Collector();
  const reader = new TarReader(collector);
  for (let at = 0; at < bytes.length; at += pieceBytes) reader.push(bytes.subarray(at, at + pieceBytes));
  reader.finish();
  return collector.found;
}

describe("a tar", () => {
  for (const seed of seeds(4)) {
    test(`is what another program reads, seed ${seed}`, async () => {
      const files = makeFiles(new Random(seed));
      const unpacker = extract();
      Readable.from([whole(files)]).pipe(unpacker);
      const found: Found[] = [];
      for await (const entry of unpacker) {
        const { name, type, mode, size } = entry.header;
        const content: Uint8Array[] = [];
        for await (const bytes of entry) content.push(bytes as Uint8Array);
        assert.equal(mode, type === "directory" ? 0o700 : 0o600);
        found.push({
          name: type === "directory" ? name.replace(/\/$/, "") : name,
          type: type!,
          content: new Uint8Array(Buffer.concat(content)),
        });
        assert.equal(size, found.at(-1)!.content.length);
      }
      assert.deepEqual(found, files);
    });

    test(`is read in pieces of any size, seed ${seed}`, () => {
      const random = new Random(seed);
      const files = makeFiles(random);
      const bytes = whole(files);
      for (const pieceBytes of [1, 7, 511, 512, 513, 1 + random.int(5000), bytes.length]) {
        assert.deepEqual(read(bytes, pieceBytes), files, `pieces of ${pieceBytes}`);
      }
    });
  }

  test("that is cut short anywhere is refused", () => {
    const files = makeFiles(new Random(1)).slice(0, 5);
    const bytes = whole(files);
    const oneEndBlock = bytes.length - 512;
    for (let length = 0; length < oneEndBlock; length++) {
      assert.throws(() => read(bytes.subarray(0, length), bytes.length), /cut short/, `cut at ${length}`);
    }
    assert.deepEqual(read(bytes.subarray(0, oneEndBlock), bytes.length), files);
  });

  test("with a flipped bit in a header is refused", () => {
    const header = new Uint8Array(512);
    for (let bit = 0; bit < 8 * 512; bit++) {
      if (bit >> 3 === 154 || bit >> 3 === 155) continue; // what ends the checksum
      writeTarHeader(header, 0, { name: "base/5/1259", type: "file", size: 8192 }, 1_700_000_000);
      header[bit >> 3] ^= 1 << (bit & 7);
      assert.throws(() => new TarReader(new Collector()).push(header), /basebackup: /, `bit ${bit}`);
    }
  });

  test("may hold files of more than 4 GiB", () => {
    const header = new Uint8Array(512);
    const entry: TarEntry = { name: "large", type: "file", size: 5 * 2 ** 30 + 1 };
    writeTarHeader(header, 0, entry, 0);
    let found: TarEntry | undefined;
    new TarReader({ begin: (begun) => found = begun, content() {}, end() {} }).push(header);
    assert.deepEqual(found, entry);
  });
});
