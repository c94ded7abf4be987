/** The calls of the C library that processes need and the runtimes' own modules lack. */

const LIBRARY = "libc.so.6";

interface Libc {
  /** flock(2). */
  flock(fd: number, operation: number): number;
  /** dup2(2). */
  dup2(from: number, to: number): number;
  /** prctl(2), of the operations that take one argument. */
  prctl(operation: number, argument: number): number;
}

interface BunFfi {
  dlopen(path: string, symbols: object): { symbols: Libc };
}

interface DenoFfi {
  dlopen(path: string, symbols: object): { symbols: Libc };
}

function open(): Libc | undefined {
  try {
    const deno = (globalThis as { Deno?: unknown }).Deno as DenoFfi | undefined;
    if (deno !== undefined) {
      const ofTwo = { parameters: ["i32", "i32"], result: "i32" };
      const prctl = { parameters: ["i32", "usize"], result: "i32" };
      return deno.dlopen(LIBRARY, { flock: ofTwo, dup2: ofTwo, prctl }).symbols;
    }
    const bun = process.getBuiltinModule("bun:ffi") as unknown as BunFfi | undefined;
    const ofTwo = { args: ["i32", "i32"], returns: "i32" };
    const prctl = { args: ["i32", "u64"], returns: "i32" };
    return bun?.dlopen(LIBRARY, { flock: ofTwo, dup2: ofTwo, prctl }).symbols;
  } catch {
    // This machine has another C library.
    return undefined;
  }
}

let opened: Libc | undefined | null = null;

/** Returns undefined when there is no C library that can be called. */
export function libc(): Libc | undefined {
  opened = opened === null ? open() : opened;
  return opened;
}
