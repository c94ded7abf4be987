import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { ByteRange } from "../../../src/object_store/object_store.ts";
import {
  importObjectKey,
  openObject,
  openRange,
  SEALED_CHUNK_BYTES as CHUNK,
  sealObject,
} from "../../../src/object_store/sealed_object.ts";
import { Random } from "../../harness/random.ts";

const NAME = "tenants/a/timelines/b/layers/00000001-00000001";
const HEAD = 48;
const SEALED = CHUNK + HEAD + 16;
const key = await importObjectKey(new Uint8Array(32).fill(7));
const random = new Random(1);

function body(length: number): Uint8Array {
  return new Uint8Array(length).map(() => random.int(256));
}

function reader(sealed: Uint8Array): { read(range: ByteRange): Promise<Uint8Array>; requests: number } {
  const counting = {
    requests: 0,
    read: (range: ByteRange) => {
      counting.requests++;
      assert.ok(range.start < range.end && range.end <= sealed.length, "the range lies inside the object");
      return Promise.resolve(sealed.slice(range.start, range.end));
    },
  };
  return counting;
}

describe("a sealed object", () => {
  for (const length of [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 3 * CHUNK + 5]) {
    test(`of ${length} bytes opens as a whole and in parts`, async () => {
      const plain = body(length);
      const sealed = await sealObject(key, NAME, plain);
      assert.equal(sealed.length, length + Math.max(1, Math.ceil(length / CHUNK)) * 64);
      assert.deepEqual(await openObject(key, NAME, sealed, "it"), plain);
      for (let n = 0; n < 30; n++) {
        const start = random.int(length + 1);
        const end = start + random.int(length - start + 1);
        const part = await openRange(key, NAME, { start, end }, reader(sealed).read, "it");
        assert.deepEqual(part, plain.subarray(start, end), `${start} to ${end}`);
      }
      for (let start = 0; start < length; start += CHUNK) {
        for (let end = start + CHUNK; end < length + CHUNK; end += CHUNK) {
          const counting = reader(sealed);
          const range = { start, end: Math.min(end, length) };
          const part = await openRange(key, NAME, range, counting.read, "it");
          assert.deepEqual(part, plain.subarray(start, end));
          assert.equal(counting.requests, 1, "chunks and what ends with the object take one request");
        }
      }
    });
  }

  test("never looks the same twice, and shows nothing of what is in it", async () => {
    const plain = new TextEncoder().encode("a secret that is in here many times. ".repeat(500));
    const [one, two] = [await sealObject(key, NAME, plain), await sealObject(key, NAME, plain)];
    assert.ok(!Buffer.from(one).includes("secret"));
    assert.ok(!Buffer.from(one).includes(two.subarray(HEAD, HEAD + 16)));
  });

  test("made by the first version opens", async () => {
    const sealed = Buffer.from(FIRST_VERSION, "base64");
    const opened = await openObject(key, "tenants/of/before", sealed, "it");
    assert.equal(new TextDecoder().decode(opened), "written by version 1");
  });
});

describe("a sealed object that was tampered with", () => {
  const isDamaged = { kind: "corrupt_data", message: /^it/ };
  const opens = (sealed: Uint8Array, name = NAME, by = key) => openObject(by, name, sealed, "it");
  const opensPart = (sealed: Uint8Array, range: ByteRange) =>
    openRange(key, NAME, range, ({ start, end }) => Promise.resolve(sealed.slice(start, end)), "it");

  test("is refused for any bit that is changed in a head, a body or a tag", async () => {
    const sealed = await sealObject(key, NAME, body(CHUNK + 9));
    const places = Array.from({ length: HEAD }, (_, at) => [at, SEALED + at]).flat();
    for (let n = 0; n < 40; n++) places.push(HEAD + random.int(SEALED - HEAD));
    for (let at = SEALED + HEAD; at < sealed.length; at++) places.push(at);
    for (const at of places) {
      const changed = sealed.slice();
      changed[at]! ^= 1 << random.int(8);
      await assert.rejects(opens(changed), isDamaged, `byte ${at}`);
      const chunk = Math.floor(at / SEALED);
      const range = { start: chunk * CHUNK, end: chunk === 0 ? CHUNK : CHUNK + 9 };
      await assert.rejects(opensPart(changed, range), isDamaged, `byte ${at}`);
    }
  });

  test("is refused when it ends early or goes on", async () => {
    const sealed = await sealObject(key, NAME, body(2 * CHUNK + 9));
    for (const length of [0, 1, HEAD, SEALED - 1, SEALED, SEALED + 1, 2 * SEALED, sealed.length - 1]) {
      await assert.rejects(opens(sealed.subarray(0, length)), isDamaged, `${length} bytes`);
    }
    await assert.rejects(opens(Buffer.concat([sealed, Uint8Array.of(0)])), isDamaged);
    const whole = await sealObject(key, NAME, body(CHUNK));
    await assert.rejects(opens(Buffer.concat([whole, whole])), isDamaged);
  });

  test("is refused with chunks in another order, or of another object", async () => {
    const sealed = await sealObject(key, NAME, body(3 * CHUNK));
    const again = await sealObject(key, NAME, body(3 * CHUNK));
    const other = await sealObject(key, "tenants/a/other", body(3 * CHUNK));
    const chunk = (from: Uint8Array, n: number) => from.subarray(n * SEALED, (n + 1) * SEALED);
    for (
      const [what, parts] of [
        ["swapped", [chunk(sealed, 1), chunk(sealed, 0), chunk(sealed, 2)]],
        ["without one", [chunk(sealed, 0), chunk(sealed, 2)]],
        ["twice one", [chunk(sealed, 0), chunk(sealed, 0), chunk(sealed, 2)]],
        ["one of another object", [chunk(sealed, 0), chunk(other, 1), chunk(sealed, 2)]],
        ["one of what it has replaced", [chunk(sealed, 0), chunk(again, 1), chunk(sealed, 2)]],
      ] as const
    ) await assert.rejects(opens(Buffer.concat(parts)), isDamaged, what);
    const range = { start: CHUNK, end: 2 * CHUNK };
    const swapped = Buffer.concat([chunk(sealed, 1), chunk(sealed, 0), chunk(sealed, 2)]);
    await assert.rejects(opensPart(swapped, range), isDamaged);
  });

  test("is refused under another name or key, and when it is not sealed", async () => {
    const sealed = await sealObject(key, NAME, body(10));
    await assert.rejects(opens(sealed, `${NAME}0`), isDamaged);
    await assert.rejects(opens(sealed, NAME, await importObjectKey(new Uint8Array(32).fill(8))), isDamaged);
    await assert.rejects(opens(body(200)), { kind: "corrupt_data", message: /is not encrypted/ });
  });
});

/** Sealed with the key above, as `tenants/of/before`. */
const FIRST_VERSION =
  "Wk5TRUFMAAABAAAAFAAAAAEAAAAAAAAAJrTNPNTEPmAbBYCjMcbOIIvU2gaGYjWIb5V6ksNIsJQqOZFVV8QMjYTnloXaeyhLgUA0720cxTv8o8UV";
