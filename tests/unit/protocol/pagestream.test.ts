import { describe, test } from "node:test";
import assert from "node:assert/strict";
import fc from "fast-check";
import { ZenithError } from "../../../src/common/errors.ts";
import { lsn } from "../../../src/common/lsn.ts";
import * as ps from "../../../src/protocol/pagestream.ts";

function request(fields: Partial<ps.PageRequest>): ps.PageRequest {
  return Object.assign(new ps.PageRequest(), { tag: ps.REQUEST_PAGES, count: 1 }, fields);
}

function encoded(fields: Partial<ps.PageRequest>): Uint8Array {
  const bytes = new Uint8Array(ps.REQUEST_BYTES);
  ps.encodeRequest(bytes, 0, request(fields));
  return bytes;
}

function decoded(bytes: Uint8Array): ps.PageRequest {
  const result = new ps.PageRequest();
  ps.decodeRequest(result, bytes, 0, bytes.length);
  return result;
}

function isProtocolError(error: unknown): boolean {
  return error instanceof ZenithError && error.kind === "protocol";
}

describe("pagestream requests", () => {
  test("come back as they were sent, at any offset", () => {
    const uint32 = fc.integer({ min: 0, max: 0xffff_ffff });
    fc.assert(
      fc.property(
        fc.record({
          requestId: uint32,
          lsn: fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER }).map(lsn),
          spc: uint32,
          db: uint32,
          rel: uint32,
          fork: fc.integer({ min: 0, max: 3 }),
          blkno: fc.integer({ min: 0, max: 0xffff_ffff - ps.PAGES_MAX_COUNT }),
          count: fc.integer({ min: 1, max: ps.PAGES_MAX_COUNT }),
        }),
        fc.integer({ min: 0, max: 20 }),
        (fields, off) => {
          const bytes = new Uint8Array(off + ps.REQUEST_BYTES + 3).fill(0xee);
          const sent = request(fields);
          ps.encodeRequest(bytes, off, sent);
          const received = new ps.PageRequest();
          ps.decodeRequest(received, bytes, off, ps.REQUEST_BYTES);
          assert.deepEqual(received, sent);
          assert.equal(bytes[off + ps.REQUEST_BYTES], 0xee);
        },
      ),
    );
  });

  test("have the layout of docs/formats/pagestream.md", () => {
    const bytes = encoded({
      requestId: 0x01020304,
      lsn: lsn(0x5_0000_0006),
      spc: 1663,
      db: 5,
      rel: 0xf0000001,
      fork: 2,
      blkno: 7,
      count: 8,
    });
    assert.equal(
      Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join(""),
      "03010200" + "01020304" + "0000000500000006" + "0000067f" + "00000005" + "f0000001" + "00000007" +
        "00000008",
    );
  });

  test("are refused when a field is out of bounds", () => {
    for (
      const fields of [
        { tag: 0 },
        { tag: 6 },
        { tag: ps.REQUEST_WAL },
        { tag: ps.REQUEST_WAL, lsn: lsn(0x2001) },
        { tag: ps.REQUEST_WAL, lsn: lsn(0x2000), count: 0 },
        { tag: ps.REQUEST_WAL, lsn: lsn(0x2000), count: ps.PAGES_MAX_COUNT + 1 },
        { tag: ps.REQUEST_WAL, lsn: lsn(0x2000), rel: 1 },
        { tag: ps.REQUEST_WAL, lsn: lsn(0x2000), blkno: 1 },
        { fork: 4 },
        { count: 0 },
        { count: ps.PAGES_MAX_COUNT + 1 },
        { blkno: 0xffff_ffff, count: 1 },
        { tag: ps.REQUEST_NBLOCKS, count: 1 },
        { tag: ps.REQUEST_EXISTS, count: 0, blkno: 1 },
        { tag: ps.REQUEST_DBSIZE, count: 0, rel: 1 },
      ]
    ) {
      assert.throws(() => decoded(encoded(fields)), isProtocolError, JSON.stringify(fields));
    }
  });

  test("for WAL begin at a page's boundary", () => {
    const request = decoded(encoded({ tag: ps.REQUEST_WAL, lsn: lsn(0x5_0000_2000), count: 128 }));
    assert.deepEqual([request.lsn, request.count], [0x5_0000_2000, 128]);
  });

  test("are refused when version, reserved byte or length is wrong", () => {
    for (const [off, value] of [[1, 2], [3, 1]]) {
      const bytes = encoded({});
      bytes[off] = value;
      assert.throws(() => decoded(bytes), isProtocolError);
    }
    assert.throws(() => decoded(encoded({}).subarray(0, 35)), isProtocolError);
    assert.throws(() => decoded(new Uint8Array(37)), isProtocolError);
  });

  test("never fail in another way, whatever the bytes", () => {
    const shape = fc.tuple(fc.uint8Array({ maxLength: 40 }), fc.boolean()).map(([bytes, plausible]) => {
      if (plausible && bytes.length > 2) {
        bytes[0] = 3;
        bytes[1] = 1;
      }
      return bytes;
    });
    fc.assert(fc.property(shape, (bytes) => {
      try {
        decoded(bytes);
      } catch (error) {
        assert.ok(error instanceof ZenithError, String(error));
      }
    }));
  });
});

describe("pagestream responses", () => {
  function decodedResponse(bytes: Uint8Array): ps.PageResponse {
    const response = new ps.PageResponse();
    ps.decodeResponse(response, bytes, 0, bytes.length);
    return response;
  }

  test("carry pages after a header of 16 bytes", () => {
    const bytes = new Uint8Array(ps.pagesResponseBytes(2));
    const at = ps.encodePagesHeader(bytes, 0, 77, 2);
    assert.equal(at, 16);
    const response = decodedResponse(bytes);
    assert.equal(response.tag, ps.RESPONSE_PAGES);
    assert.equal(response.requestId, 77);
    assert.equal(response.value, 2);
    assert.equal(response.off, at);
    assert.equal(response.len, 2 * ps.PAGE_BYTES);
    assert.throws(() => decodedResponse(bytes.subarray(0, bytes.length - 1)), isProtocolError);
  });

  test("carry WAL like pages", () => {
    const bytes = new Uint8Array(ps.pagesResponseBytes(2));
    assert.equal(ps.encodePagesHeader(bytes, 0, 77, 2, ps.RESPONSE_WAL), 16);
    const { tag, value, len } = decodedResponse(bytes);
    assert.deepEqual([tag, value, len], [ps.RESPONSE_WAL, 2, 2 * ps.PAGE_BYTES]);
    assert.throws(() => decodedResponse(bytes.subarray(0, bytes.length - 1)), isProtocolError);
  });

  test("carry values beyond 32 bits", () => {
    const bytes = new Uint8Array(ps.RESPONSE_HEADER_BYTES);
    ps.encodeValueResponse(bytes, 0, ps.RESPONSE_DBSIZE, 1, 0x12_3456_789a);
    assert.equal(decodedResponse(bytes).value, 0x12_3456_789a);
  });

  test("carry an error's SQLSTATE and text", () => {
    const bytes = ps.encodeErrorResponse(9, "22003", "LSN 0/1 is below the horizon — gone");
    const response = decodedResponse(bytes);
    assert.equal(response.tag, ps.RESPONSE_ERROR);
    assert.equal(response.requestId, 9);
    assert.equal(response.sqlstate, "22003");
    assert.equal(ps.responseErrorMessage(response, bytes), "LSN 0/1 is below the horizon — gone");
  });

  test("with a value that their tag does not allow are refused", () => {
    for (
      const [tag, value] of [
        [ps.RESPONSE_EXISTS, 2],
        [ps.RESPONSE_NBLOCKS, 0x1_0000_0000],
        [ps.RESPONSE_PAGES, 0],
        [0x80, 0],
      ]
    ) {
      const bytes = new Uint8Array(ps.RESPONSE_HEADER_BYTES);
      ps.encodeValueResponse(bytes, 0, tag, 1, value);
      assert.throws(() => decodedResponse(bytes), isProtocolError);
    }
  });

  test("never fail in another way, whatever the bytes", () => {
    const shape = fc.tuple(fc.uint8Array({ maxLength: 64 }), fc.constantFrom(0x81, 0x83, 0xff, 0));
    fc.assert(fc.property(shape, ([bytes, tag]) => {
      if (tag !== 0 && bytes.length > 2) bytes.set([tag, 1]);
      try {
        decodedResponse(bytes);
      } catch (error) {
        assert.ok(isProtocolError(error), String(error));
      }
    }));
  });
});
