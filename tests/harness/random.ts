/** Random numbers from a seed: the same seed gives the same run, so a failure can be repeated. */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** 32 random bits, unsigned (Mulberry32). */
  u32(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = this.#state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return (t ^ (t >>> 14)) >>> 0;
  }

  /** An integer in 0 .. below-1. */
  int(below: number): number {
    return this.u32() % below;
  }

  /** True once in `n` times. */
  oneIn(n: number): boolean {
    return this.int(n) === 0;
  }

  bytes(length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    for (let i = 0; i < length; i++) bytes[i] = this.u32();
    return bytes;
  }
}

/** Deno runs what Bun has run already: a few cases show whether the same code does the same there. */
const IS_DENO = "Deno" in globalThis;
const DENO_SEEDS = 5;

/**
 * Seeds for a randomized test: the first `count` numbers, the same at every run; on Deno a few. The environment variable
 * ZENITH_SEEDS asks for more (or fewer) of them, or for the range `701-1400`; ZENITH_SEED for a single one, to repeat a failure.
 */
export function seeds(count: number): number[] {
  const one = process.env["ZENITH_SEED"];
  if (one !== undefined) return [Number(one)];
  const usual = IS_DENO ? Math.min(count, DENO_SEEDS) : count;
  const wanted = (process.env["ZENITH_SEEDS"] ?? String(usual)).split("-").map(Number);
  const first = wanted.length === 2 ? wanted[0] : 1;
  return Array.from({ length: wanted.at(-1)! - first + 1 }, (_, i) => first + i);
}

/** Whether tests that go over many cases take all of them, as before a release; never on Deno. */
export const EXHAUSTIVE: boolean = process.env["ZENITH_EXHAUSTIVE"] === "1" && !IS_DENO;
