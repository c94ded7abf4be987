import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { parseBranchName, parseTenantId } from "../../../../src/common/id.ts";
import { Transfers } from "../../../../src/pageserver/service/transfers.ts";

const ABOUT = {
  kind: "export",
  tenant: parseTenantId("a".repeat(32)),
  branch: parseBranchName("main"),
  peer: "127.0.0.1:4444",
  estimatedBytes: 10,
} as const;

async function* chunks(...sizes: number[]): AsyncGenerator<Uint8Array> {
  for (const size of sizes) yield new Uint8Array(await Promise.resolve(size));
}

describe("transfers", () => {
  test("are listed while they run, with what has passed, and after that with how they ended", async () => {
    const transfers = new Transfers();
    const seen = await transfers.run(ABOUT, async (transfer) => {
      const seen = [];
      for await (const chunk of transfer.counted(chunks(3, 4))) {
        seen.push([chunk.length, transfers.list()[0]!.json().bytes]);
      }
      transfer.beginWal();
      assert.deepEqual(transfers.list().map((one) => one.json().ended_at), [null]);
      return seen;
    });
    assert.deepEqual(seen, [[3, 3], [4, 7]]);
    await assert.rejects(
      transfers.run({ ...ABOUT, kind: "import" }, () => Promise.reject(new Error("no room"))),
      /no room/,
    );
    const [failed, finished] = transfers.list().map((one) => one.json());
    assert.deepEqual([failed!.kind, failed!.error, failed!.bytes], ["import", "no room", 0]);
    assert.deepEqual([finished!.error, finished!.bytes, finished!.step], [null, 7, "wal"]);
    assert.ok(finished!.ended_at !== null && finished!.ended_at >= finished!.started_at);
  });

  test("that run come first, and only the latest that have ended are remembered", async () => {
    const transfers = new Transfers();
    await transfers.run(ABOUT, async (first) => {
      for (let i = 0; i < 60; i++) await transfers.run(ABOUT, () => Promise.resolve());
      const ids = transfers.list().map(({ id }) => id);
      assert.equal(ids[0], first.id);
      assert.deepEqual([ids.length, ids[1], ids[50]], [51, 61, 12]);
    });
  });
});
