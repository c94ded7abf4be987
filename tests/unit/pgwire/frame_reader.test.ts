import { describe, test } from "node:test";
import assert from "node:assert/strict";
import fc from "fast-check";
import { FrameReader } from "../../../src/pgwire/frame_reader.ts";
import { COPY_DATA, FRONTEND_LIMITS, QUERY, SYNC } from "../../../src/pgwire/message_types.ts";
import { ProtocolError } from "../../../src/pgwire/sqlstate.ts";

interface Frame {
  type: number;
  body: number[];
}

function encode(frames: readonly Frame[]): Uint8Array {
  const bytes: number[] = [];
  for (const { type, body } of frames) {
    const length = body.length + 4;
    bytes.push(type, length >>> 24, (length >>> 16) & 255, (length >>> 8) & 255, length & 255, ...body);
  }
  return Uint8Array.from(bytes);
}

function readAll(reader: FrameReader): Frame[] {
  const frames: Frame[] = [];
  while (reader.next()) {
    frames.push({ type: reader.type, body: [...reader.bytes.subarray(reader.off, reader.off + reader.len)] });
  }
  return frames;
}

const frames = fc.array(
  fc.record({
    type: fc.constantFrom(QUERY, COPY_DATA, SYNC),
    body: fc.array(fc.integer({ min: 0, max: 255 }), { maxLength: 40 }),
  }, { noNullPrototype: true }),
  { maxLength: 12 },
);

describe("frame reader", () => {
  test("returns the same messages however the bytes are cut, and whenever it is asked", () => {
    fc.assert(
      fc.property(
        frames,
        fc.array(fc.integer({ min: 1, max: 30 }), { minLength: 1 }),
        fc.boolean(),
        (sent, cuts, late) => {
          const bytes = encode(sent);
          const reader = new FrameReader(FRONTEND_LIMITS);
          const received: Frame[] = [];
          for (let off = 0, i = 0; off < bytes.length; i++) {
            const end = off + cuts[i % cuts.length];
            reader.push(bytes.slice(off, end));
            if (!late) received.push(...readAll(reader));
            off = end;
          }
          received.push(...readAll(reader));
          assert.deepEqual(received, sent);
          assert.equal(reader.bufferedBytes, 0);
        },
      ),
    );
  });

  test("does not copy a message that a chunk holds whole", () => {
    const chunk = encode([{ type: COPY_DATA, body: [1, 2, 3] }]);
    const reader = new FrameReader(FRONTEND_LIMITS);
    reader.push(chunk);
    assert.equal(reader.next(), true);
    assert.equal(reader.bytes, chunk);
  });

  test("hands out bodies that outlive the next message, whole or put together", () => {
    const chunk = encode([{ type: COPY_DATA, body: [1, 2, 3] }, { type: COPY_DATA, body: [4, 5, 6] }]);
    const reader = new FrameReader(FRONTEND_LIMITS);
    const bodies: Uint8Array[] = [];
    for (const byte of chunk) {
      reader.push(Uint8Array.of(byte));
      if (reader.next()) bodies.push(reader.detach());
    }
    assert.deepEqual(bodies.map((body) => [...body]), [[1, 2, 3], [4, 5, 6]]);
  });

  test("refuses unknown types and impossible lengths from the header alone", () => {
    for (
      const header of [
        [0, 0, 0, 0, 4],
        [QUERY, 0, 0, 0, 3],
        [QUERY, 0xff, 0xff, 0xff, 0xff],
        [QUERY, 0x7f, 0xff, 0xff, 0xff],
        [SYNC, 0, 1, 0, 0],
      ]
    ) {
      for (const cut of [5, 2]) {
        const reader = new FrameReader(FRONTEND_LIMITS);
        reader.push(Uint8Array.from(header.slice(0, cut)));
        assert.throws(() => {
          assert.equal(reader.next(), false);
          reader.push(Uint8Array.from(header.slice(cut)));
          reader.next();
        }, ProtocolError);
      }
    }
  });

  test("refuses a startup packet longer than PostgreSQL's limit", () => {
    const reader = new FrameReader(FRONTEND_LIMITS);
    reader.expectStartup = true;
    reader.push(new TextEncoder().encode("GET / HTTP/1.1\r\n"));
    assert.throws(() => reader.next(), ProtocolError);
  });

  test("reads random bytes without hanging or failing in another way", () => {
    fc.assert(
      fc.property(
        fc.array(fc.uint8Array({ maxLength: 50 }), { maxLength: 20 }),
        fc.boolean(),
        (chunks, startup) => {
          const reader = new FrameReader(FRONTEND_LIMITS);
          reader.expectStartup = startup;
          try {
            for (const chunk of chunks) {
              reader.push(chunk);
              while (reader.next()) assert.ok(reader.off + reader.len <= reader.bytes.length);
            }
          } catch (error) {
            assert.ok(error instanceof ProtocolError, String(error));
          }
        },
      ),
    );
  });
});
