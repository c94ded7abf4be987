import { describe, test } from "node:test";
import assert from "node:assert/strict";
import fc from "fast-check";
import { ProtocolError } from "../../../src/pgwire/sqlstate.ts";
import {
  formatCommandLineOptions,
  parseCommandLineOptions,
  parseStartupPacket,
} from "../../../src/pgwire/startup.ts";

function packet(code: number, text: string): Uint8Array {
  const body = new TextEncoder().encode(text);
  const bytes = new Uint8Array(4 + body.length);
  new DataView(bytes.buffer).setInt32(0, code);
  bytes.set(body, 4);
  return bytes;
}

function parse(code: number, text: string) {
  const bytes = packet(code, text);
  return parseStartupPacket(bytes, 0, bytes.length);
}

const V3_0 = 0x30000;

describe("startup packet", () => {
  test("gives parameters and options", () => {
    const startup = parse(V3_0, "user\0zoe\0database\0main\0options\0-c ztenantid=ab --a-b=c\\ d\0\0");
    assert.equal(startup.kind, "startup");
    if (startup.kind !== "startup") return;
    assert.equal(startup.params.get("user"), "zoe");
    assert.equal(startup.params.get("database"), "main");
    assert.deepEqual([...startup.options], [["ztenantid", "ab"], ["a_b", "c d"]]);
    assert.equal(startup.negotiate, undefined);
  });

  test("without a database names the user's", () => {
    const startup = parse(V3_0, "user\0zoe\0\0");
    assert.equal(startup.kind === "startup" && startup.params.get("database"), "zoe");
  });

  test("of a newer minor version or with extensions is negotiated down", () => {
    const newer = parse(0x30002, "user\0zoe\0_pq_.fast\x001\0\0");
    assert.deepEqual(newer.kind === "startup" && newer.negotiate, ["_pq_.fast"]);
    const minorOnly = parse(0x30001, "user\0zoe\0\0");
    assert.deepEqual(minorOnly.kind === "startup" && minorOnly.negotiate, []);
  });

  test("asks for TLS, GSSAPI or a cancel", () => {
    assert.equal(parse((1234 << 16) | 5679, "").kind, "ssl");
    assert.equal(parse((1234 << 16) | 5680, "").kind, "gssenc");
    assert.deepEqual(parse((1234 << 16) | 5678, "\0\0\0\x07\0\0\0\x09"), {
      kind: "cancel",
      processId: 7,
      secretKey: 9,
    });
  });

  test("is refused when malformed", () => {
    for (
      const [code, text] of [
        [0x20000, "user\0zoe\0\0"],
        [V3_0, ""],
        [V3_0, "\0"],
        [V3_0, "user\0zoe\0"],
        [V3_0, "user\0zoe"],
        [V3_0, "user\0zoe\0\0more"],
        [V3_0, "database\0main\0\0"],
        [V3_0, "user\0zoe\0options\0-x\0\0"],
        [(1234 << 16) | 5678, "\0\0"],
      ] as const
    ) {
      assert.throws(() => parse(code, text), ProtocolError, `${code} ${JSON.stringify(text)}`);
    }
  });

  test("of random bytes never fails in another way", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 60 }), fc.boolean(), (bytes, plausible) => {
        if (plausible && bytes.length >= 4) bytes.set([0, 3, 0, 0]);
        try {
          parseStartupPacket(bytes, 0, bytes.length);
        } catch (error) {
          assert.ok(error instanceof ProtocolError, String(error));
        }
      }),
    );
  });
});

describe("command line options", () => {
  test("come back as they were written", () => {
    const name = fc.stringMatching(/^[a-z_.]{1,10}$/);
    const value = fc.string({
      unit: fc.constantFrom("a", " ", "\\", "=", "-", "'", "\t", "é"),
      maxLength: 12,
    });
    fc.assert(
      fc.property(fc.dictionary(name, value), (entries) => {
        const expected = new Map(Object.entries(entries));
        assert.deepEqual(parseCommandLineOptions(formatCommandLineOptions(expected)), expected);
      }),
    );
  });

  test("may be written without a space", () => {
    assert.deepEqual([...parseCommandLineOptions("  -ca=b   -c  c=d=e ")], [["a", "b"], ["c", "d=e"]]);
  });

  test("that name nothing are refused", () => {
    for (const text of ["-c", "-c a", "--", "--=x", "word", "-c =1"]) {
      assert.throws(() => parseCommandLineOptions(text), ProtocolError, text);
    }
  });
});
