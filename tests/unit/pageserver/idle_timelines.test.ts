/** Timelines that nobody uses are closed, and are as they were when they are used again. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { parse } from "valibot";
import { nextTurn } from "../../../src/common/event_loop.ts";
import { type BranchName, parseBranchName, type TimelineId } from "../../../src/common/id.ts";
import type { Lsn } from "../../../src/common/lsn.ts";
import { PageServerConfigSchema } from "../../../src/common/page_server_config.ts";
import type { PageServer } from "../../../src/pageserver/service/page_server.ts";
import type { Timeline } from "../../../src/pageserver/timeline/timeline.ts";
import { Random } from "../../harness/random.ts";
import { openTinyPageServer, TINY_TENANT, tinyDisk } from "../../harness/tiny_page_server.ts";
import { WalBuilder } from "../../harness/wal_builder.ts";

const MAIN = parseBranchName("main");
const CHILD = parseBranchName("child");
const NOBODY = (): boolean => false;

class Scenario implements AsyncDisposable {
  readonly disk = tinyDisk();
  server!: PageServer;

  static async create(): Promise<Scenario> {
    const scenario = new Scenario();
    scenario.server = await openTinyPageServer(scenario.disk);
    await scenario.server.createTenant(TINY_TENANT);
    return scenario;
  }

  get tenant() {
    return this.server.tenant(TINY_TENANT);
  }

  get openIds(): TimelineId[] {
    return this.tenant.timelines.opened().map(({ timelineId }) => timelineId);
  }

  async branch(name: BranchName, parent: BranchName): Promise<void> {
    const start = { branch: parent, timelineId: null, lsn: null, timestamp: null };
    await this.tenant.branches.create(name, start);
  }

  async idOf(name: BranchName): Promise<TimelineId> {
    return (await this.tenant.branches.list()).find((branch) => branch.name === name)!.timelineId;
  }

  /** Writes records on a branch. @returns where it ends */
  async write(name: BranchName, records: number): Promise<Lsn> {
    using held = await this.tenant.timelines.hold(await this.idOf(name));
    return await append(held.value, records);
  }

  /** As upkeep does it, of a time in which nobody came. */
  async sleep(): Promise<void> {
    // Children go first: they hold what they come from.
    for (let depth = 0; depth < 3; depth++) await this.tenant.timelines.closeIdle(-1, () => {});
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.server.close();
  }
}

async function append(timeline: Timeline, records: number): Promise<Lsn> {
  const at = await timeline.restartReceiving();
  const { lsn, prev } = timeline.boundary(null);
  const { walSegmentSize: segmentSize, systemIdentifier: systemId } = timeline;
  const wal = new WalBuilder({ startLsn: lsn, prev, segmentSize, systemId });
  for (let i = 0; i < records; i++) wal.record({ main: new Uint8Array(300).fill(i) });
  await timeline.receive(at, wal.bytes.slice(at - wal.from));
  await timeline.makeDurable();
  return timeline.lastRecordLsn;
}

describe("a timeline that nobody uses", () => {
  test("is closed with all it has in layers, its parent after it, and opened when it is used", async () => {
    await using scenario = await Scenario.create();
    await scenario.write(MAIN, 10);
    await scenario.branch(CHILD, MAIN);
    const end = await scenario.write(CHILD, 100);
    const before = await scenario.tenant.branches.list();
    assert.equal(scenario.openIds.length, 2);
    await scenario.sleep();
    assert.deepEqual(scenario.openIds, []);
    const asleep = await scenario.tenant.branches.list();
    assert.deepEqual(scenario.openIds, [], "a list opens none");
    const withoutPhysical = (branches: typeof before) =>
      branches.map(({ physicalBytes, ...branch }) => ({ ...branch, isMeasured: physicalBytes! > 0 }));
    assert.deepEqual(withoutPhysical(asleep), withoutPhysical(before));
    using held = await scenario.tenant.timelines.hold(await scenario.idOf(CHILD));
    assert.equal(held.value.lastRecordLsn, end);
    assert.equal(scenario.openIds.length, 2, "its parent is open with it");
    assert.ok(await append(held.value, 5) > end);
  });

  test("is told of after a restart without being opened; a logical size is not known then", async () => {
    await using scenario = await Scenario.create();
    await scenario.branch(CHILD, MAIN);
    await scenario.write(CHILD, 100);
    const before = await scenario.tenant.branches.list();
    await scenario.server.close();
    scenario.server = await openTinyPageServer(scenario.disk);
    const after = await scenario.tenant.branches.list();
    assert.deepEqual(scenario.openIds, []);
    const known = (branches: typeof before) =>
      branches.map((
        { name, latestValidLsn, nextLsn, ancestorLsn, damage },
      ) => [name, latestValidLsn, nextLsn, ancestorLsn, damage]);
    assert.deepEqual(known(after), known(before));
    assert.deepEqual(after.map(({ logicalBytes }) => logicalBytes), [null, null]);
  });

  test("is opened for that after a kill: what its WAL has beyond its layers is not known otherwise", async () => {
    await using scenario = await Scenario.create();
    await scenario.write(MAIN, 10);
    await scenario.sleep();
    const end = await scenario.write(MAIN, 30);
    scenario.disk.failAt(1, { kind: "crash" });
    await scenario.server.close().catch(() => {});
    scenario.disk.kill();
    scenario.server = await openTinyPageServer(scenario.disk);
    const [main] = await scenario.tenant.branches.list();
    assert.equal(main!.latestValidLsn, end);
    await scenario.sleep();
    assert.deepEqual(scenario.openIds, []);
    assert.equal((await scenario.tenant.branches.list())[0].latestValidLsn, end);
  });

  test("stays open while somebody holds it, or when it can't be written out", async () => {
    await using scenario = await Scenario.create();
    const id = await scenario.idOf(MAIN);
    {
      using _held = await scenario.tenant.timelines.hold(id);
      await scenario.sleep();
      assert.deepEqual(scenario.openIds, [id]);
    }
    await scenario.write(MAIN, 10);
    scenario.disk.failAt(1, { kind: "error", code: "ENOSPC" });
    await assert.rejects(scenario.sleep(), { kind: "disk_full" });
    assert.deepEqual(scenario.openIds, [id]);
    await scenario.sleep();
    assert.deepEqual(scenario.openIds, []);
  });

  test("can be deleted while it is closed or being closed", async () => {
    await using scenario = await Scenario.create();
    for (let turns = 0; turns < 12; turns++) {
      await scenario.branch(CHILD, MAIN);
      await scenario.write(CHILD, 10);
      const closing = scenario.sleep();
      for (let turn = 0; turn < turns; turn++) await nextTurn();
      await scenario.tenant.branches.delete(CHILD, false, NOBODY);
      await closing.catch((error) => assert.equal(error.kind, "unavailable"));
      assert.deepEqual((await scenario.tenant.branches.list()).map(({ name }) => name), [MAIN]);
      assert.deepEqual((await scenario.tenant.branches.survey()).damaged, []);
    }
  });

  test("has its data whatever else happens meanwhile", async () => {
    for (let seed = 1; seed <= 6; seed++) {
      const random = new Random(seed);
      await using scenario = await Scenario.create();
      const names = [MAIN, CHILD, parseBranchName("grandchild")];
      await scenario.branch(CHILD, MAIN);
      await scenario.branch(names[2], CHILD);
      const ids = await Promise.all(names.map((name) => scenario.idOf(name)));
      const ends = names.map(() => 0);
      const writing = names.map(() => Promise.resolve());
      const write = async (i: number): Promise<void> => {
        using held = await scenario.tenant.timelines.hold(ids[i]);
        await nextTurn();
        assert.ok(held.value.lastRecordLsn >= ends[i], "nothing is lost");
        ends[i] = await append(held.value, 1 + random.int(20));
      };
      const others: Promise<unknown>[] = [];
      for (let step = 0; step < 60; step++) {
        const i = random.int(names.length);
        if (random.int(2) === 0) writing[i] = writing[i].then(() => write(i));
        if (random.int(3) === 0) others.push(scenario.tenant.timelines.closeIdle(-1, () => {}));
        if (random.int(3) === 0) others.push(scenario.tenant.branches.list());
        await nextTurn();
      }
      await Promise.all([...writing, ...others]);
      await scenario.sleep();
      assert.deepEqual(scenario.openIds, []);
      const listed = await scenario.tenant.branches.list();
      for (const [i, name] of names.entries()) {
        if (ends[i] === 0) continue;
        assert.equal(listed.find((branch) => branch.name === name)!.latestValidLsn, ends[i]);
      }
    }
  });
});

test("upkeep closes what nobody has used, and forgets where its WAL came from", async () => {
  const disk = tinyDisk();
  const server = await openTinyPageServer(disk, parse(PageServerConfigSchema, { idle_timeline_s: 1 }));
  await server.createTenant(TINY_TENANT);
  const { timelines, branches } = server.tenant(TINY_TENANT);
  const [main] = await branches.list();
  {
    using held = await timelines.hold(main!.timelineId);
    server.receiveFrom(timelines.holdIfOpen(held.value.timelineId)!, "host=127.0.0.1 port=1", false);
    assert.notEqual(server.receiverState(main!.timelineId), null);
  }
  while (timelines.opened().length > 0) await new Promise((resolve) => setTimeout(resolve, 50));
  assert.equal(server.receiverState(main!.timelineId), null);
  await server.close();
});
