/** Writes tar archives without copying pages. */
import { assert } from "../../common/assert.ts";
import {
  TAR_BLOCK_BYTES,
  TAR_END_BYTES,
  type TarEntry,
  tarPadding,
  writeTarHeader,
} from "../../protocol/tar.ts";

/**
 * Writes a tar archive into one reused buffer. Callers put pages directly where they belong.
 * Methods that need room hand out the buffer's content when it is full. The receiver must be done
 * with it before asking for more.
 */
export class TarWriter {
  /** The archive's next bytes go to `used`. */
  readonly chunk: Uint8Array;
  used = 0;
  /** The modification time of all files, in seconds since 1970. */
  readonly #mtime = Math.floor(Date.now() / 1000);

  /** @param chunkBytes the largest chunk to hand out */
  constructor(chunkBytes: number) {
    this.chunk = new Uint8Array(chunkBytes);
  }

  *directory(name: string): Generator<Uint8Array> {
    yield* this.#header({ name, type: "directory", size: 0 });
  }

  *file(name: string, content: Uint8Array): Generator<Uint8Array> {
    yield* this.begin(name, content.length);
    yield* this.bytes(content);
    yield* this.end(content.length);
  }

  /** Begins a file of `size` bytes, which must be added before {@link end}. */
  begin(name: string, size: number): Generator<Uint8Array> {
    return this.#header({ name, type: "file", size });
  }

  /** Hands out what is in the buffer, however little that is. */
  *handOut(): Generator<Uint8Array> {
    yield this.chunk.subarray(0, this.used);
    this.used = 0;
  }

  /**
   * Makes room for `count` contiguous bytes at {@link used}. The caller fills them and advances
   * `used`.
   */
  *room(count: number): Generator<Uint8Array> {
    assert(count <= this.chunk.length, "a chunk holds what is asked for");
    if (this.chunk.length - this.used < count) yield* this.handOut();
  }

  *bytes(content: Uint8Array): Generator<Uint8Array> {
    for (let at = 0; at < content.length;) {
      yield* this.room(1);
      const part = content.subarray(at, at + this.chunk.length - this.used);
      this.chunk.set(part, this.used);
      this.used += part.length;
      at += part.length;
    }
  }

  *zeros(count: number): Generator<Uint8Array> {
    for (let left = count; left > 0;) {
      yield* this.room(1);
      const end = Math.min(this.chunk.length, this.used + left);
      this.chunk.fill(0, this.used, end);
      left -= end - this.used;
      this.used = end;
    }
  }

  /** Ends the file of `size` bytes. */
  end(size: number): Generator<Uint8Array> {
    return this.zeros(tarPadding(size));
  }

  /** Ends the archive. */
  *finish(): Generator<Uint8Array> {
    yield* this.zeros(TAR_END_BYTES);
    yield* this.handOut();
  }

  *#header(entry: TarEntry): Generator<Uint8Array> {
    yield* this.room(TAR_BLOCK_BYTES);
    writeTarHeader(this.chunk, this.used, entry, this.#mtime);
    this.used += TAR_BLOCK_BYTES;
  }
}
