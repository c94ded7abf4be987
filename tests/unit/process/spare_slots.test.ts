/** Slots of processes that wait: which one is taken, and what is not made for them. */
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { claimSlot, findSpares, hasFreeSlot, leaveSlot } from "../../../src/process/spare_slots.ts";

let root: string;

before(() => {
  root = mkdtempSync(join(tmpdir(), "zenith-spare-slots-"));
});
after(() => rmSync(root, { recursive: true }));

describe("a slot", () => {
  test("is the first for who has worked, and the last for who has not", () => {
    const directory = join(root, "spares");
    const fresh = claimSlot(directory, "last")!;
    assert.equal(fresh.socket, join(directory, "2.sock"));
    assert.ok(hasFreeSlot(directory));
    const used = claimSlot(directory)!;
    assert.equal(used.socket, join(directory, "1.sock"));
    assert.deepEqual(findSpares(directory).map(({ socket }) => socket), [used.socket, fresh.socket]);
    assert.ok(!hasFreeSlot(directory));
    assert.equal(claimSlot(directory), undefined);
    leaveSlot(used);
    assert.equal(claimSlot(directory, "last")?.socket, used.socket);
  });

  test("is not made in an environment that was removed", () => {
    const removed = join(root, "removed");
    assert.equal(claimSlot(join(removed, "spares")), undefined);
    assert.ok(!existsSync(removed));
  });
});
