import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { CommandTags } from "../../../../src/commands/pg/command_tags.ts";

function message(type: string, body: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(5 + body.length);
  bytes[0] = type.charCodeAt(0);
  new DataView(bytes.buffer).setUint32(1, 4 + body.length);
  bytes.set(body, 5);
  return bytes;
}

const text = (words: string) => new TextEncoder().encode(`${words}\0`);

const STREAM = [
  message("R", new Uint8Array(4)),
  message("S", text("C")),
  message("C", text("CREATE TABLE")),
  message("C", text("INSERT 0 12")),
  message("T", new Uint8Array(2)),
  // The body has what looks like the header of another message.
  message("D", message("C", text("DROP TABLE"))),
  message("C", text("SELECT 1")),
  message("I", new Uint8Array()),
  message("C", text("UPDATE 0")),
  message("Z", new Uint8Array(1)),
].flatMap((bytes) => [...bytes]);

const EXPECTED = [
  { tag: "CREATE TABLE", hasRows: false },
  { tag: "INSERT 12", hasRows: false },
  { tag: "SELECT 1", hasRows: true },
  { tag: "UPDATE 0", hasRows: false },
];

describe("command tags", () => {
  for (const size of [1, 2, 3, 7, 1000]) {
    test(`are found in pieces of ${size} bytes`, () => {
      const tags = new CommandTags();
      for (let at = 0; at < STREAM.length; at += size) tags.add(Uint8Array.from(STREAM.slice(at, at + size)));
      assert.deepEqual(tags.completed, EXPECTED);
    });
  }
});
