import assert from "node:assert/strict";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, test } from "node:test";
import { nodeDisk } from "../../../../src/common/disk.ts";
import type { Lsn } from "../../../../src/common/lsn.ts";
import { TimelineSlots } from "../../../../src/pageserver/timeline/slots.ts";

let directory: string;
let path: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "zenith-slots-"));
  path = join(directory, "slots");
});
afterEach(() => rmSync(directory, { recursive: true }));

const MAX_BYTES = 100;
const open = (): TimelineSlots => new TimelineSlots(nodeDisk, path, MAX_BYTES);
const END = 90 as Lsn;
const lsn = (value: number): Lsn => value as Lsn;

describe("the replication slots of a timeline", () => {
  test("are those that were set last, also after a restart, and hold WAL back", async () => {
    const slots = open();
    assert.equal(slots.keepFrom(END), Infinity);
    const { generation } = await slots.take();
    await slots.set({ generation, slots: "AAAA", holdLsn: lsn(16) });
    await slots.set({ generation, slots: "BBBB", holdLsn: lsn(32) });
    for (const opened of [slots, open()]) {
      assert.deepEqual(opened.state, { generation, slots: "BBBB", holdLsn: lsn(32) });
      assert.equal(opened.keepFrom(END), 32);
      assert.equal(opened.keepFrom(lsn(150)), 50);
    }
    await slots.set({ generation, slots: "CCCC", holdLsn: null });
    assert.equal(open().keepFrom(END), Infinity);
  });

  test("cost a compute that has none no file", async () => {
    await open().take();
    assert.ok(!existsSync(path));
  });

  test("are set by nobody who has been followed by another, also after a restart", async () => {
    const slots = open();
    const first = (await slots.take()).generation;
    await slots.set({ generation: first, slots: "AAAA", holdLsn: lsn(16) });
    const taken = await slots.take();
    assert.deepEqual({ slots: taken.slots, holdLsn: taken.holdLsn }, { slots: "AAAA", holdLsn: 16 });
    for (const opened of [slots, open()]) {
      const late = opened.set({ generation: first, slots: "BBBB", holdLsn: lsn(32) });
      await assert.rejects(late, /another Postgres has taken over/);
      assert.equal(opened.state.slots, "AAAA");
      await opened.set({ generation: taken.generation, slots: "CCCC", holdLsn: lsn(24) });
      assert.equal(opened.keepFrom(END), 24);
    }
  });

  test("that are taken while they are set are those of whoever took them", async () => {
    const slots = open();
    const { generation } = await slots.take();
    const setting = slots.set({ generation, slots: "AAAA", holdLsn: lsn(16) });
    setting.catch(() => {});
    const taken = await slots.take();
    await assert.rejects(setting, /another Postgres has taken over/);
    assert.equal(taken.slots, null);
    assert.equal(open().state.slots, null);
  });

  test("hold back what they need before they are durable, and until others are", async () => {
    const slots = open();
    const { generation } = await slots.take();
    const first = slots.set({ generation, slots: "AAAA", holdLsn: lsn(16) });
    assert.equal(slots.keepFrom(END), 16);
    await first;
    const second = slots.set({ generation, slots: "BBBB", holdLsn: lsn(32) });
    assert.equal(slots.keepFrom(END), 16);
    await second;
    assert.equal(slots.keepFrom(END), 32);
  });

  test("that are damaged hold all WAL back, and are told of", async () => {
    writeFileSync(path, "zenith slots 2\ngeneration 1\nhold 0/10\nslots AAAA\ncrc32c 00000000\n");
    const slots = open();
    assert.equal(slots.keepFrom(END), 0);
    assert.match(slots.damage()!.what, /slots was damaged/);
    const { generation } = await slots.take();
    await slots.set({ generation, slots: "AAAA", holdLsn: lsn(16) });
    assert.equal(slots.keepFrom(END), 16);
    assert.equal(slots.damage(), null);
  });
});
