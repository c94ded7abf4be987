/**
 * Defines the store's keys. An object is a sequence of blocks with versions. Only the user of the
 * store knows what it stands for: a relation fork, an SLRU segment, a file. A key is (object, block
 * number).
 */
import { assert } from "../../common/assert.ts";

/**
 * Names a versioned sequence of blocks. Objects are ordered by (kind, a, b, c, d). `kind` and `d`
 * are unsigned 8-bit, `a`, `b`, `c` unsigned 32-bit.
 */
export interface ObjectId {
  readonly kind: number;
  readonly a: number;
  readonly b: number;
  readonly c: number;
  readonly d: number;
}

/**
 * The block number of the object's size entry: the highest u32. The size has its own versions,
 * beside those of the blocks.
 */
export const SIZE_BLOCK = 0xffffffff;

/** Selects the objects of one kind, with these `a` and `b` where given. */
export interface ObjectFilter {
  readonly kind: number;
  readonly a?: number;
  readonly b?: number;
}

/** Returns a negative number, zero or a positive number as `x` sorts before, with or after `y`. */
export function compareObjects(x: ObjectId, y: ObjectId): number {
  return x.kind - y.kind || x.a - y.a || x.b - y.b || x.c - y.c || x.d - y.d;
}

/** Formats an object for messages: `object 1/1663/5/16384.0`. */
export function formatObject(object: ObjectId): string {
  return `object ${object.kind}/${object.a}/${object.b}/${object.c}.${object.d}`;
}

/** A key: a block of an object. */
export interface Key {
  readonly object: ObjectId;
  readonly block: number;
}

/** From one key to another, both included. */
export interface KeyRange {
  readonly first: Key;
  readonly last: Key;
}

export function compareKeys(x: Key, y: Key): number {
  return compareObjects(x.object, y.object) || x.block - y.block;
}

const INITIAL_CAPACITY = 256;

/**
 * Gives every object a small integer, its slot, so that the rest of the store can index arrays
 * instead of hashing names. Slots are never reused. One table serves a timeline, its ancestors and
 * its branches, so a slot means the same in all of them.
 */
export class ObjectTable {
  #count = 0;
  #ids: ObjectId[] = [];
  /**
   * A hash table with open addressing: slot + 1, 0 where free. Its length is a power of two, and it
   * is at most half full.
   */
  #buckets = new Int32Array(2 * INITIAL_CAPACITY);

  /** How many slots exist. They are 0 .. count-1. */
  get count(): number {
    return this.#count;
  }

  /** Returns the object's slot, and gives it a new one if it has none. */
  slot(kind: number, a: number, b: number, c: number, d: number): number {
    const bucket = this.#find(kind, a, b, c, d);
    const found = this.#buckets[bucket];
    if (found !== 0) return found - 1;
    assert(isU8(kind) && isU8(d), "kind and d of an object are unsigned 8-bit integers");
    assert(isU32(a) && isU32(b) && isU32(c), "a, b and c of an object are unsigned 32-bit integers");
    const slot = this.#count++;
    this.#ids.push({ kind, a, b, c, d });
    this.#buckets[bucket] = slot + 1;
    if (2 * this.#count > this.#buckets.length) this.#grow();
    return slot;
  }

  /** Returns the object's slot, or -1 if it never got one. */
  existing(object: ObjectId): number {
    return this.#buckets[this.#find(object.kind, object.a, object.b, object.c, object.d)] - 1;
  }

  object(slot: number): ObjectId {
    const id = this.#ids[slot];
    assert(id !== undefined, "a slot comes from the object table");
    return id;
  }

  /**
   * Returns a negative number, zero or a positive number as the object of slot `x` sorts before,
   * with or after that of `y`.
   */
  compare(x: number, y: number): number {
    return compareObjects(this.#ids[x], this.#ids[y]);
  }

  /** Returns the bucket that holds the object, or the free one where it belongs. */
  #find(kind: number, a: number, b: number, c: number, d: number): number {
    const mask = this.#buckets.length - 1;
    let bucket = hash(kind, a, b, c, d) & mask;
    for (;;) {
      const found = this.#buckets[bucket];
      if (found === 0) return bucket;
      const id = this.#ids[found - 1];
      if (id.c === c && id.d === d && id.b === b && id.a === a && id.kind === kind) return bucket;
      bucket = (bucket + 1) & mask;
    }
  }

  #grow(): void {
    this.#buckets = new Int32Array(2 * this.#buckets.length);
    for (let slot = 0; slot < this.#count; slot++) {
      const id = this.#ids[slot];
      this.#buckets[this.#find(id.kind, id.a, id.b, id.c, id.d)] = slot + 1;
    }
  }
}

/** Multiply-and-mix over the parts. Any odd constants with well-spread bits will do. */
function hash(kind: number, a: number, b: number, c: number, d: number): number {
  let h = Math.imul(c ^ Math.imul(kind ^ (d << 8), 0x27d4eb2d), 0x9e3779b1);
  h = Math.imul(h ^ (h >>> 15) ^ b, 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13) ^ a, 0xc2b2ae35);
  return h ^ (h >>> 16);
}

function isU8(value: number): boolean {
  return (value & 0xff) === value;
}

function isU32(value: number): boolean {
  return value >>> 0 === value;
}
