/** One damaged file must not take others along: all that does not need it works, it is named, and it can be deleted. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { describe, test } from "node:test";
import { type BranchName, parseBranchName, type TimelineId } from "../../../src/common/id.ts";
import type { PageServer } from "../../../src/pageserver/service/page_server.ts";
import { openTinyPageServer, TINY_PATHS, TINY_TENANT, tinyDisk } from "../../harness/tiny_page_server.ts";

const NAMES = ["main", "child", "grandchild", "sibling"].map(parseBranchName) as [
  BranchName,
  BranchName,
  BranchName,
  BranchName,
];
const [MAIN, CHILD, GRANDCHILD, SIBLING] = NAMES;
const NEW = parseBranchName("fresh");
const NOBODY = (): boolean => false;

class Damaged implements AsyncDisposable {
  readonly disk = tinyDisk();
  readonly timelines = new Map<string, TimelineId>();
  server!: PageServer;

  /** Four branches; then the server is stopped, `damage` is done, and it is started again. */
  static async create(damage: (scenario: Damaged) => void): Promise<Damaged> {
    const scenario = new Damaged();
    scenario.server = await openTinyPageServer(scenario.disk);
    await scenario.server.createTenant(TINY_TENANT);
    for (const [name, parent] of [[CHILD, MAIN], [GRANDCHILD, CHILD], [SIBLING, MAIN]] as const) {
      await scenario.make(name, parent);
    }
    for (const { name, timelineId } of await scenario.branches.list()) {
      scenario.timelines.set(name, timelineId);
    }
    await scenario.server.close();
    damage(scenario);
    scenario.server = await openTinyPageServer(scenario.disk);
    return scenario;
  }

  get branches() {
    return this.server.tenant(TINY_TENANT).branches;
  }

  async make(name: BranchName, parent: BranchName): Promise<void> {
    await this.branches.create(name, { branch: parent, timelineId: null, lsn: null, timestamp: null });
  }

  idOf(name: string): TimelineId {
    return this.timelines.get(name)!;
  }

  path(name: string, file: string): string {
    return join(TINY_PATHS.timeline(TINY_TENANT, this.idOf(name)), file);
  }

  write(path: string, content: string): void {
    const bytes = new TextEncoder().encode(content);
    const file = this.disk.openSync(path, "create");
    file.writeSync(bytes, 0, bytes.length, 0);
    file.closeSync();
  }

  flipBit(path: string, at: number): void {
    const bytes = this.disk.readFileSync(path);
    bytes[at] ^= 4;
    const file = this.disk.openSync(path, "create");
    file.writeSync(bytes, 0, bytes.length, 0);
    file.closeSync();
  }

  async names(): Promise<string[]> {
    return (await this.branches.list()).map(({ name }) => name);
  }

  async damage(): Promise<(string | null)[][]> {
    const { damaged } = await this.branches.survey();
    return damaged.map(({ name, timelineId, damage }) => [name, timelineId, damage.what]);
  }

  async collectGarbage(name: string): Promise<void> {
    const tenant = this.server.tenant(TINY_TENANT);
    await tenant.collectGarbage((await tenant.timelines.hold(this.idOf(name))).value, 0);
  }

  /** What has nothing to do with the damage goes on. */
  async expectOthersWork(): Promise<void> {
    await this.make(NEW, MAIN);
    await this.branches.rename(NEW, parseBranchName("newer"));
    await this.branches.expire(Date.now(), NOBODY);
    await this.server.status();
    await this.branches.delete(parseBranchName("newer"), false, NOBODY);
    await this.branches.delete(SIBLING, false, NOBODY);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.server.close();
  }
}

/** In timeline metadata, the lowest byte of the LSN where the timeline left its ancestor. */
const ANCESTOR_LSN = 24;

describe("with one flipped bit in a child's metadata", () => {
  const flip = (scenario: Damaged) => scenario.flipBit(scenario.path(CHILD, "metadata"), ANCESTOR_LSN);

  test("all other branches work, and it is named", async () => {
    await using scenario = await Damaged.create(flip);
    assert.deepEqual(await scenario.names(), [MAIN, SIBLING]);
    const damage = await scenario.damage();
    assert.deepEqual(damage.map(([name]) => name).sort(), [CHILD, GRANDCHILD]);
    for (const [, , what] of damage) assert.ok(what!.includes(scenario.path(CHILD, "metadata")), what!);
    await assert.rejects(scenario.make(NEW, CHILD), { kind: "corrupt_data" });
    await scenario.expectOthersWork();
    assert.deepEqual(await scenario.names(), [MAIN]);
  });

  test("history that it may need is kept until it is deleted, which takes what comes from it", async () => {
    await using scenario = await Damaged.create(flip);
    await assert.rejects(scenario.collectGarbage(MAIN), { kind: "corrupt_data" });
    await scenario.collectGarbage(SIBLING);
    await assert.rejects(scenario.branches.delete(CHILD, false, NOBODY), { kind: "conflict" });
    await scenario.branches.delete(CHILD, true, NOBODY);
    assert.deepEqual(await scenario.names(), [MAIN, SIBLING]);
    assert.deepEqual(await scenario.damage(), []);
    await scenario.collectGarbage(MAIN);
  });

  test("that names its ancestor, what it may come from is not deleted before it", async () => {
    await using scenario = await Damaged.create((scenario) => {
      const path = scenario.path(GRANDCHILD, "metadata");
      scenario.flipBit(path, scenario.disk.readFileSync(path).length - 1);
    });
    await assert.rejects(scenario.branches.delete(CHILD, true, NOBODY), { kind: "conflict" });
    await scenario.branches.delete(GRANDCHILD, false, NOBODY);
    await scenario.branches.delete(CHILD, false, NOBODY);
    assert.deepEqual(await scenario.names(), [MAIN, SIBLING]);
  });

  test("in the tenant's first timeline nothing that comes from it goes by mistake", async () => {
    await using scenario = await Damaged.create((scenario) =>
      scenario.flipBit(scenario.path(MAIN, "metadata"), ANCESTOR_LSN)
    );
    assert.equal((await scenario.damage()).length, 4);
    await assert.rejects(scenario.branches.delete(MAIN, true, NOBODY), { kind: "conflict" });
    await scenario.branches.delete(SIBLING, false, NOBODY);
  });
});

describe("with a branch file that is empty", () => {
  test("all other branches work, its timeline stays, and can have another name", async () => {
    await using scenario = await Damaged.create((scenario) =>
      scenario.write(TINY_PATHS.branch(TINY_TENANT, CHILD), "")
    );
    const timeline = scenario.idOf(CHILD);
    assert.deepEqual(await scenario.names(), [GRANDCHILD, MAIN, SIBLING]);
    const damage = await scenario.damage();
    assert.deepEqual(damage.map(([name, id]) => [name, id]), [[CHILD, null], [null, timeline]]);
    await assert.rejects(scenario.branches.get(CHILD), { kind: "corrupt_data", hint: /branch delete/ });
    await assert.rejects(scenario.make(CHILD, MAIN), { kind: "already_exists" });
    await scenario.expectOthersWork();
    await scenario.branches.delete(CHILD, false, NOBODY);
    assert.deepEqual((await scenario.damage()).map(([name, id]) => [name, id]), [[null, timeline]]);
    await scenario.branches.create(CHILD, { branch: null, timelineId: timeline, lsn: null, timestamp: null });
    assert.deepEqual(await scenario.names(), [CHILD, GRANDCHILD, MAIN]);
    await assert.rejects(scenario.branches.delete(timeline, false, NOBODY), { kind: "conflict" });
    await scenario.branches.delete(timeline, true, NOBODY);
    assert.deepEqual(await scenario.damage(), []);
    assert.deepEqual(await scenario.names(), [MAIN]);
  });
});

test("stray files in branches/ and timelines/ are named, and in nobody's way", async () => {
  await using scenario = await Damaged.create((scenario) => {
    scenario.write(join(TINY_PATHS.branches(TINY_TENANT), "not a branch"), "");
    scenario.write(join(TINY_PATHS.timelines(TINY_TENANT), "notes.txt"), "");
    scenario.disk.mkdirSync(join(TINY_PATHS.timelines(TINY_TENANT), "nothex.deleted"));
    scenario.disk.mkdirSync(join(TINY_PATHS.timelines(TINY_TENANT), "A".repeat(32)));
  });
  assert.deepEqual((await scenario.damage()).map(([name]) => name), ["not a branch"]);
  await scenario.expectOthersWork();
});

test("stray files and directories in tenants/ keep no page server from starting", async () => {
  await using scenario = await Damaged.create((scenario) => {
    for (const name of ["nothex.deleted", "nothex.creating", "lost+found", "A".repeat(32)]) {
      scenario.disk.mkdirSync(join(TINY_PATHS.tenants, name));
    }
    scenario.write(join(TINY_PATHS.tenants, "b".repeat(32)), "");
  });
  assert.deepEqual(scenario.server.tenants(), [TINY_TENANT]);
  await scenario.expectOthersWork();
});

test("a timeline whose leases are damaged is read and branched from, and gives up nothing", async () => {
  await using scenario = await Damaged.create((scenario) =>
    scenario.write(scenario.path(CHILD, "leases"), "rubbish")
  );
  assert.deepEqual(await scenario.names(), [CHILD, GRANDCHILD, MAIN, SIBLING]);
  const child = (await scenario.branches.list()).find(({ name }) => name === CHILD)!;
  assert.match(child.damage!.what, /leases\.damaged/);
  await assert.rejects(scenario.collectGarbage(CHILD), { kind: "corrupt_data" });
  await scenario.collectGarbage(MAIN);
  await scenario.make(NEW, CHILD);
  scenario.disk.unlinkSync(scenario.path(CHILD, "leases.damaged"));
  await scenario.collectGarbage(CHILD);
});

test("a timeline whose list of safekeepers is damaged is read, and says that no compute can know where to begin", async () => {
  await using scenario = await Damaged.create((scenario) =>
    scenario.write(scenario.path(CHILD, "safekeepers"), "rubbish")
  );
  assert.deepEqual(await scenario.names(), [CHILD, GRANDCHILD, MAIN, SIBLING]);
  const timeline = (await scenario.server.tenant(TINY_TENANT).timelines.hold(scenario.idOf(CHILD))).value;
  assert.match(timeline.damage()!.what, /safekeepers/);
  assert.throws(() => timeline.safekeepers.list, { kind: "corrupt_data" });
  await timeline.safekeepers.set([{ host: "h", port: 1 }]);
  assert.deepEqual(timeline.safekeepers.list, [{ host: "h", port: 1 }]);
  assert.equal(timeline.damage(), null);
});
