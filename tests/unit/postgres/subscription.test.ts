import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { describe, test } from "node:test";
import { parseSubscription } from "../../../src/postgres/cluster/subscription.ts";

const TEXT = new TextEncoder();

function name(text: string): number[] {
  return [...TEXT.encode(text.padEnd(64, "\0"))];
}

/** A text with a header of one byte. */
function short(text: string): number[] {
  return [(text.length + 1) << 1 | 1, ...TEXT.encode(text)];
}

/** A text with a header of four bytes, where a row has `at` bytes before it. */
function long(text: string, at: number): number[] {
  const header = Buffer.alloc(4);
  header.writeUInt32LE((text.length + 4) << 2);
  return [...new Uint8Array(-at & 3), ...header, ...TEXT.encode(text)];
}

/** What the row has before its texts. */
function fixed(major: number, subname: string, isEnabled: boolean): number[] {
  const flags = major >= 17 ? 7 : major >= 16 ? 6 : major >= 15 ? 4 : 2;
  const before = new Uint8Array(major >= 15 ? 16 : 8);
  return [...before, ...name(subname), 10, 0, 0, 0, Number(isEnabled), ...new Uint8Array(flags)];
}

function parse(major: number, bytes: readonly number[]): ReturnType<typeof parseSubscription> {
  return parseSubscription(major, new DataView(Uint8Array.from(bytes).buffer));
}

describe("a row of pg_subscription", () => {
  for (const major of [14, 15, 16, 17, 18]) {
    test(`is read as PostgreSQL ${major} has it, with a slot or without, whatever its connection`, () => {
      const head = fixed(major, "s", true);
      const found = { name: "s", isEnabled: true, synchronousCommit: "off" };
      assert.deepEqual(parse(major, [...head, ...short("host=x"), ...name("s"), ...short("off")]), found);
      assert.deepEqual(parse(major, [...head, ...short("host=x"), ...short("off")]), found);
      const conninfo = long(`host=${"x".repeat(200)}`, head.length);
      assert.deepEqual(
        parse(major, [...fixed(major, "B b", false), ...conninfo, ...name("s"), ...short("remote_apply")]),
        { name: "B b", isEnabled: false, synchronousCommit: "remote_apply" },
      );
      const elsewhere = [1, 18, ...new Uint8Array(16)];
      assert.deepEqual(parse(major, [...head, ...elsewhere, ...short("off")]), found);
    });
  }

  test("that is cut short makes no sense", () => {
    const whole = [...fixed(15, "s", true), ...short("host=x"), ...name("s"), ...short("off")];
    for (let length = 0; length < whole.length; length++) {
      assert.equal(parse(15, whole.slice(0, length)), null);
    }
  });
});
