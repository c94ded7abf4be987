/** Reads files piece by piece. */
import { closeSync, openSync, read } from "node:fs";
import { ioError, systemErrorCode, ZenithError } from "../../common/errors.ts";

const READ_BYTES = 256 << 10;

/** Bytes `start` to `end` of a file, without the byte at `end`. */
export interface FileRange {
  readonly start: number;
  readonly end: number;
}

/**
 * @param range without it, the whole file
 * @throws {ZenithError} `not_found`, `io`; `corrupt_data` when the file ends before the range does
 */
export async function* fileBytes(path: string, range?: FileRange): AsyncGenerator<Uint8Array> {
  // Not a FileHandle: Bun ends the process when it finds one that nobody has closed.
  const fd = opened(path);
  try {
    const end = range?.end ?? Number.MAX_SAFE_INTEGER;
    for (let at = range?.start ?? 0; at < end;) {
      const piece = new Uint8Array(Math.min(READ_BYTES, end - at));
      const count = await readAt(fd, piece, at).catch((error) => {
        throw ioError("read", path, error);
      });
      if (count === 0) {
        if (range === undefined) return;
        throw new ZenithError("corrupt_data", `${path} ends at ${at}, before ${end}`);
      }
      yield piece.subarray(0, count);
      at += count;
    }
  } finally {
    closeSync(fd);
  }
}

function opened(path: string): number {
  try {
    return openSync(path, "r");
  } catch (error) {
    if (systemErrorCode(error) === "ENOENT") throw new ZenithError("not_found", `there is no ${path}`);
    throw ioError("open", path, error);
  }
}

function readAt(fd: number, bytes: Uint8Array, position: number): Promise<number> {
  return new Promise((resolve, reject) => {
    read(fd, bytes, 0, bytes.length, position, (error, count) => {
      if (error === null) resolve(count);
      else reject(error);
    });
  });
}

/** @throws {ZenithError} `corrupt_data` above `maxBytes`; what the source throws */
export async function collect(
  source: AsyncIterable<Uint8Array>,
  maxBytes: number,
  where: string,
): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  let length = 0;
  for await (const bytes of source) {
    length += bytes.length;
    if (length > maxBytes) throw new ZenithError("corrupt_data", `${where} has more than ${maxBytes} bytes`);
    // The source may use its buffer again.
    parts.push(Uint8Array.from(bytes));
  }
  return Buffer.concat(parts);
}
