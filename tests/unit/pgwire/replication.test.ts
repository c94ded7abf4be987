import { describe, test } from "node:test";
import assert from "node:assert/strict";
import fc from "fast-check";
import { ZenithError } from "../../../src/common/errors.ts";
import { lsn } from "../../../src/common/lsn.ts";
import type { PgClient } from "../../../src/pgwire/client.ts";
import * as replication from "../../../src/pgwire/replication.ts";
import { ProtocolError } from "../../../src/pgwire/sqlstate.ts";

describe("START_REPLICATION", () => {
  test("is read in every form that clients send", () => {
    assert.deepEqual(replication.parseStartReplication("START_REPLICATION PHYSICAL 0/16B5A50 TIMELINE 1"), {
      startLsn: lsn(0x16b5a50),
      timeline: 1,
    });
    assert.deepEqual(replication.parseStartReplication('START_REPLICATION SLOT "s1" 1/0 TIMELINE 3;'), {
      startLsn: lsn(0x1_0000_0000),
      slot: "s1",
      timeline: 3,
    });
    assert.deepEqual(replication.parseStartReplication("start_replication 0/0"), { startLsn: lsn(0) });
  });

  test("of another kind is refused", () => {
    for (
      const sql of [
        "START_REPLICATION",
        "START_REPLICATION SLOT s LOGICAL 0/0",
        "START_REPLICATION PHYSICAL x/y",
      ]
    ) {
      assert.throws(() => replication.parseStartReplication(sql), ZenithError, sql);
    }
  });

  test("takes no slot name that could carry a command", async () => {
    const client = {
      query: () => assert.fail("sent"),
      copyBoth: () => assert.fail("sent"),
    } as unknown as PgClient;
    for (const slot of ["", "a b", "A", "a;b", "x".repeat(64)]) {
      await assert.rejects(replication.createPhysicalSlot(client, slot), ZenithError);
      await assert.rejects(replication.startReplication(client, { slot, startLsn: lsn(0) }), ZenithError);
    }
  });
});

describe("replication messages", () => {
  const position = fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER }).map(lsn);

  test("a standby status update comes back as it was sent", () => {
    fc.assert(
      fc.property(position, position, position, fc.boolean(), (write, flush, apply, replyRequested) => {
        const bytes = new Uint8Array(replication.STANDBY_STATUS_BYTES + 2);
        replication.encodeStandbyStatusUpdate(bytes, 1, write, flush, apply, replyRequested);
        const status = new replication.StandbyStatus();
        assert.equal(
          replication.decodeStandbyMessage(status, bytes, 1, replication.STANDBY_STATUS_BYTES),
          true,
        );
        assert.deepEqual({ ...status }, { write, flush, apply, replyRequested });
      }),
    );
  });

  test("the time is in microseconds since 2000", () => {
    const bytes = new Uint8Array(replication.KEEPALIVE_BYTES);
    const before = Date.now();
    replication.encodeKeepalive(bytes, 0, lsn(1), true);
    const sent = Number(new DataView(bytes.buffer).getBigInt64(9)) / 1000 + Date.UTC(2000, 0, 1);
    assert.ok(sent >= before && sent <= Date.now());
    assert.equal(bytes[17], 1);
  });

  test("hot standby feedback is passed over, anything else refused", () => {
    const status = new replication.StandbyStatus();
    assert.equal(replication.decodeStandbyMessage(status, Uint8Array.of(104, 1, 2), 0, 3), false);
    assert.throws(() => replication.decodeStandbyMessage(status, Uint8Array.of(114, 1), 0, 2), ProtocolError);
    assert.throws(() => replication.decodeStandbyMessage(status, new Uint8Array(0), 0, 0), ProtocolError);
  });
});
