/** Calls of the C library that the runtimes' file systems lack. Bun's and Deno's ways to it are different ones. */

/** fallocate(2): include/uapi/linux/falloc.h. */
const FALLOC_FL_KEEP_SIZE = 1;
const FALLOC_FL_PUNCH_HOLE = 2;

const LIBRARY = "libc.so.6";

type Fallocate = (fd: number, mode: number, offset: bigint, length: bigint) => number;

interface BunFfi {
  dlopen(path: string, symbols: Record<string, { args: string[]; returns: string }>): {
    symbols: Record<string, unknown>;
  };
}

interface DenoFfi {
  dlopen(
    path: string,
    symbols: Record<string, { parameters: string[]; result: string }>,
  ): { symbols: Record<string, unknown> };
}

function loadFallocate(): Fallocate | undefined {
  try {
    const deno = (globalThis as { Deno?: DenoFfi }).Deno;
    if (deno !== undefined) {
      const parameters = ["i32", "i32", "i64", "i64"];
      return deno.dlopen(LIBRARY, { fallocate: { parameters, result: "i32" } })
        .symbols["fallocate"] as Fallocate;
    }
    const bun = process.getBuiltinModule("bun:ffi") as unknown as BunFfi | undefined;
    const args = ["i32", "i32", "i64", "i64"];
    return bun?.dlopen(LIBRARY, { fallocate: { args, returns: "i32" } }).symbols["fallocate"] as
      | Fallocate
      | undefined;
  } catch {
    // Another C library: no holes then.
    return undefined;
  }
}

let fallocate: Fallocate | undefined | null = null;

/**
 * Gives the disk space of a part of a file back; it reads as zeros then.
 *
 * @returns false when this system or this file system can't
 */
export function punchHole(fd: number, offset: number, bytes: number): boolean {
  if (fallocate === null) fallocate = loadFallocate();
  return fallocate?.(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, BigInt(offset), BigInt(bytes)) === 0;
}
