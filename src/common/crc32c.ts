/**
 * CRC-32C (Castagnoli): the checksum of PostgreSQL's WAL, of its control file and of all our file
 * formats.
 *
 * Slicing-by-16: sixteen tables turn sixteen bytes into sixteen independent lookups. That keeps a
 * JIT-compiled loop busy, where the textbook byte-at-a-time loop waits for its own last result.
 */

/**
 * The Castagnoli polynomial 0x1EDC6F41 with its bits reversed, for a CRC that takes the lowest bit
 * first.
 */
const POLYNOMIAL_REVERSED = 0x82f63b78;

const SLICES = 16;

const TABLE = buildTables();

// One constant per slice: the loop indexes each table without arithmetic.
const T0 = slice(0);
const T1 = slice(1);
const T2 = slice(2);
const T3 = slice(3);
const T4 = slice(4);
const T5 = slice(5);
const T6 = slice(6);
const T7 = slice(7);
const T8 = slice(8);
const T9 = slice(9);
const T10 = slice(10);
const T11 = slice(11);
const T12 = slice(12);
const T13 = slice(13);
const T14 = slice(14);
const T15 = slice(15);

/**
 * The CRC-32C of `bytes[off .. off + len)` as an unsigned 32-bit number.
 *
 * @param seed the CRC of what came before, to continue over several pieces:
 *   `crc32c(b, 0, b.length, crc32c(a, 0, a.length))` is the CRC of `a` followed by `b`
 */
export function crc32c(bytes: Uint8Array, off: number, len: number, seed = 0): number {
  let crc = ~seed;
  let at = off;
  const end = off + len;
  const slicedEnd = end - (len % SLICES);
  while (at < slicedEnd) {
    crc = T15[(crc ^ bytes[at]) & 0xff] ^
      T14[((crc >>> 8) ^ bytes[at + 1]) & 0xff] ^
      T13[((crc >>> 16) ^ bytes[at + 2]) & 0xff] ^
      T12[((crc >>> 24) ^ bytes[at + 3]) & 0xff] ^
      T11[bytes[at + 4]] ^
      T10[bytes[at + 5]] ^
      T9[bytes[at + 6]] ^
      T8[bytes[at + 7]] ^
      T7[bytes[at + 8]] ^
      T6[bytes[at + 9]] ^
      T5[bytes[at + 10]] ^
      T4[bytes[at + 11]] ^
      T3[bytes[at + 12]] ^
      T2[bytes[at + 13]] ^
      T1[bytes[at + 14]] ^
      T0[bytes[at + 15]];
    at += SLICES;
  }
  // Slices for the rest too: most WAL records are short, and a byte-at-a-time loop waits for each
  // result.
  if (end - at >= 8) {
    crc = T7[(crc ^ bytes[at]) & 0xff] ^
      T6[((crc >>> 8) ^ bytes[at + 1]) & 0xff] ^
      T5[((crc >>> 16) ^ bytes[at + 2]) & 0xff] ^
      T4[((crc >>> 24) ^ bytes[at + 3]) & 0xff] ^
      T3[bytes[at + 4]] ^
      T2[bytes[at + 5]] ^
      T1[bytes[at + 6]] ^
      T0[bytes[at + 7]];
    at += 8;
  }
  if (end - at >= 4) {
    crc = T3[(crc ^ bytes[at]) & 0xff] ^
      T2[((crc >>> 8) ^ bytes[at + 1]) & 0xff] ^
      T1[((crc >>> 16) ^ bytes[at + 2]) & 0xff] ^
      T0[((crc >>> 24) ^ bytes[at + 3]) & 0xff];
    at += 4;
  }
  while (at < end) {
    crc = T0[(crc ^ bytes[at]) & 0xff] ^ (crc >>> 8);
    at++;
  }
  return ~crc >>> 0;
}

/**
 * `TABLE[256 * n + b]`: what byte `b` contributes to the CRC when `n` more bytes follow it in its
 * group.
 */
function buildTables(): Int32Array {
  const table = new Int32Array(SLICES * 256);
  for (let byte = 0; byte < 256; byte++) {
    let crc = byte;
    for (let bit = 0; bit < 8; bit++) {
      crc = (crc & 1) !== 0 ? (crc >>> 1) ^ POLYNOMIAL_REVERSED : crc >>> 1;
    }
    table[byte] = crc;
  }
  for (let at = 256; at < table.length; at++) {
    const shorter = table[at - 256];
    table[at] = (shorter >>> 8) ^ table[shorter & 0xff];
  }
  return table;
}

function slice(n: number): Int32Array {
  return TABLE.slice(n * 256, (n + 1) * 256);
}
