import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { ZenithError } from "../../../src/common/errors.ts";
import { parseBranchName, parseTenantId, parseTimelineId, type TimelineId } from "../../../src/common/id.ts";
import type { Lsn } from "../../../src/common/lsn.ts";
import { PageServerPaths } from "../../../src/common/paths.ts";
import { decodeBranchFile, encodeBranchFile } from "../../../src/pageserver/tenant/branch_file_format.ts";
import { BranchFiles, parseStartPoint } from "../../../src/pageserver/tenant/branch_files.ts";
import { TimelineDirectories, withDescendants } from "../../../src/pageserver/tenant/timeline_directories.ts";
import { encodeTimelineInfo } from "../../../src/pageserver/timeline/timeline_info.ts";
import { BlockCache, TimelineStore } from "../../../src/pagestore/mod.ts";
import { FaultyDisk, PowerLostError } from "../../harness/faulty_disk.ts";
import { Random, seeds } from "../../harness/random.ts";

const TENANT = parseTenantId("a".repeat(32));
const PATHS = new PageServerPaths("/w");
const timeline = (digit: string): TimelineId => parseTimelineId(digit.repeat(32));
const [ROOT, CHILD, GRANDCHILD, SIBLING] = ["1", "2", "3", "4"].map(timeline) as [
  TimelineId,
  TimelineId,
  TimelineId,
  TimelineId,
];
const text = (content: string) => new TextEncoder().encode(content);

describe("a branch file", () => {
  test("says what it was written with", () => {
    const lasting = { timelineId: ROOT, expiresMs: null, isProtected: false, requiresMask: false };
    const passing = {
      timelineId: ROOT,
      expiresMs: Date.UTC(2026, 10, 22, 9, 30, 15, 250),
      isProtected: false,
      requiresMask: false,
    };
    const kept = { ...lasting, isProtected: true, requiresMask: false };
    for (const branch of [lasting, passing, kept, { ...passing, isProtected: true, requiresMask: false }]) {
      assert.deepEqual(decodeBranchFile(encodeBranchFile(branch), "main"), branch);
    }
    assert.match(
      new TextDecoder().decode(encodeBranchFile(passing)),
      new RegExp(
        `^zenith branch 2\ntimeline ${ROOT}\nexpires 2026-11-22T09:30:15.250000Z\ncrc32c [0-9a-f]{8}\n$`,
      ),
    );
    const withoutChecksum = `zenith branch 1\ntimeline ${ROOT}\nexpires 2026-11-22T09:30:15.250000Z\n`;
    assert.deepEqual(decodeBranchFile(text(withoutChecksum), "main"), passing);
  });

  test("that holds something else is refused, by its path", () => {
    const good = new TextDecoder().decode(
      encodeBranchFile({ timelineId: ROOT, expiresMs: 0, isProtected: false, requiresMask: false }),
    );
    for (
      const bad of [
        "",
        good.slice(0, -1),
        good.slice(0, 30),
        good.replace("branch 2", "branch 3"),
        good.replace("branch 2", "branch 1"),
        good.replace(ROOT, "12"),
        good.replace("1970", "later"),
        `${good}more\n`,
      ]
    ) {
      assert.throws(
        () => decodeBranchFile(text(bad), "/w/main"),
        (error) =>
          error instanceof ZenithError && error.kind === "corrupt_data" && error.message.includes("/w/main"),
        JSON.stringify(bad),
      );
    }
  });
});

describe("where a branch starts", () => {
  test("is a branch or a timeline, at its end, an LSN or a moment", () => {
    const nowhere = { branch: null, timelineId: null, lsn: null, timestamp: null };
    assert.deepEqual(parseStartPoint("main"), { ...nowhere, branch: "main" });
    assert.deepEqual(parseStartPoint("main@0/16B5A50"), { ...nowhere, branch: "main", lsn: 0x16B5A50 });
    assert.deepEqual(parseStartPoint(`${ROOT}@1/0`), { ...nowhere, timelineId: ROOT, lsn: 2 ** 32 });
    assert.deepEqual(parseStartPoint("main@2000-01-01T00:00:01Z"), {
      ...nowhere,
      branch: "main",
      timestamp: 1_000_000,
    });
    for (const bad of ["main@", "main@yesterday", "main@2026-11-22", "@0/16B5A50", "main@0/1@0/2"]) {
      assert.throws(
        () => parseStartPoint(bad),
        (error) => error instanceof ZenithError && error.kind === "invalid_argument",
        bad,
      );
    }
  });
});

test("descendants come before what they come from", () => {
  const ancestors = new Map([[ROOT, null], [CHILD, ROOT], [GRANDCHILD, CHILD], [SIBLING, ROOT]]);
  assert.deepEqual(withDescendants(GRANDCHILD, ancestors), [GRANDCHILD]);
  assert.deepEqual(withDescendants(CHILD, ancestors), [GRANDCHILD, CHILD]);
  const all = withDescendants(ROOT, ancestors);
  assert.equal(all.length, 4);
  assert.ok(all.indexOf(GRANDCHILD) < all.indexOf(CHILD));
  assert.equal(all.at(-1), ROOT);
});

test("a timeline is read from where branches, and branches of these, left it", async () => {
  const scenario = new Scenario(1);
  await scenario.fill();
  const { directories } = scenario.parts();
  assert.deepEqual(directories.branchPoints(ROOT), [8, 8, 8]);
  assert.deepEqual(directories.branchPoints(CHILD), [8]);
  assert.deepEqual(directories.branchPoints(GRANDCHILD), []);
});

test("what is remembered of the files is what they say, after any change that works or fails", async () => {
  for (const seed of seeds(20)) {
    const scenario = new Scenario(seed);
    await scenario.fill();
    const random = new Random(seed);
    const { branches } = scenario.parts();
    const names = ["main", "b", "c", "d", "e"].map(parseBranchName);
    const pick = () => names[random.int(names.length)]!;
    for (let i = 0; i < 200; i++) {
      const name = pick();
      if (random.int(4) === 0) scenario.disk.failAt(1 + random.int(4), { kind: "error", code: "EIO" });
      const branch = {
        name,
        timelineId: ROOT,
        expiresMs: random.int(1000),
        isProtected: false,
        requiresMask: false,
      };
      const changes = [
        () => branches.create(branch),
        async () => branches.get(name) === null ? undefined : await branches.replace(branch),
        () => branches.remove(name),
        () => branches.rename(name, pick()),
      ];
      // A look in the middle of a change remembers something too.
      const change = Promise.resolve(changes[random.int(changes.length)]!()).catch(refusedOrFailed);
      if (random.int(2) === 0) looked(branches);
      await change;
      scenario.disk.noFault();
      const fresh = scenario.parts().branches;
      assert.deepEqual(branches.scan(), fresh.scan(), `seed ${seed}, change ${i}`);
      for (const each of names) assert.deepEqual(branches.get(each), fresh.get(each));
    }
  }
});

function looked(branches: BranchFiles): void {
  try {
    branches.scan();
  } catch (error) {
    refusedOrFailed(error);
  }
}

function refusedOrFailed(error: unknown): void {
  if (!(error instanceof ZenithError)) throw error;
}

/** A tenant with four branches on a disk whose power can go. */
class Scenario {
  readonly disk: FaultyDisk;

  constructor(seed: number) {
    this.disk = new FaultyDisk(new Random(seed));
  }

  async fill(): Promise<void> {
    this.disk.mkdirsSync(PATHS.branches(TENANT));
    this.disk.mkdirsSync(PATHS.timelines(TENANT));
    for (const path of ["/", PATHS.workdir, PATHS.tenants, PATHS.tenant(TENANT)]) {
      this.disk.fsyncDirSync(path);
    }
    const root = await this.#create(ROOT, null, null);
    const child = await this.#create(CHILD, ROOT, root);
    await this.#create(GRANDCHILD, CHILD, child);
    await this.#create(SIBLING, ROOT, root);
    const { branches } = this.parts();
    for (
      const [name, timelineId] of [["main", ROOT], ["b", CHILD], ["c", GRANDCHILD], ["d", SIBLING]] as const
    ) {
      await branches.create({
        name: parseBranchName(name),
        timelineId,
        expiresMs: null,
        isProtected: false,
        requiresMask: false,
      });
    }
  }

  async #create(
    id: TimelineId,
    ancestorId: TimelineId | null,
    ancestor: TimelineStore | null,
  ): Promise<TimelineStore> {
    const store = await TimelineStore.create(PATHS.timeline(TENANT, id), {
      disk: this.disk,
      nowMs: () => 0,
      cache: new BlockCache(1 << 20),
      startLsn: 8 as Lsn,
      ...(ancestor === null ? {} : { ancestor: { store: ancestor, lsn: 8 as Lsn } }),
      userData: encodeTimelineInfo({
        ancestorId,
        walStartLsn: 8 as Lsn,
        pgMajor: 15,
        beginsMasked: false,
        awaitsBackup: false,
      }),
    });
    await store.close();
    return store;
  }

  /** As a page server that has just been started has them. */
  parts(): { branches: BranchFiles; directories: TimelineDirectories } {
    const branches = new BranchFiles(this.disk, PATHS, TENANT);
    return { branches, directories: new TimelineDirectories(this.disk, PATHS, TENANT, branches) };
  }

  names(): string[] {
    return this.parts().branches.list().map((branch) => branch.name);
  }

  /** Whether names, directories and ancestors agree. */
  check(): void {
    const { branches, directories } = this.parts();
    const named = branches.list().map((branch) => branch.timelineId).sort();
    const ancestors = directories.ancestors();
    assert.deepEqual(
      [...ancestors.keys()].sort(),
      named,
      "every branch has its timeline, and the other way round",
    );
    for (const ancestor of ancestors.values()) {
      assert.ok(
        ancestor === null || (ancestor !== undefined && ancestors.has(ancestor)),
        "no branch has lost what it comes from",
      );
    }
    assert.deepEqual(this.disk.readdirSync(PATHS.timelines(TENANT)).sort(), named, "nothing else is left");
  }
}

describe("deleting and renaming branches when the power fails at any operation", () => {
  const steps: [string, (scenario: Scenario) => Promise<void>, readonly string[][]][] = [
    [
      "a branch with its descendants goes from the leaves down",
      async (scenario) => {
        const { directories } = scenario.parts();
        for (const id of withDescendants(CHILD, directories.ancestors())) await directories.remove(id);
      },
      [["b", "c", "d", "main"], ["b", "d", "main"], ["d", "main"]],
    ],
    [
      "a renamed branch has one of its names",
      (scenario) => scenario.parts().branches.rename(parseBranchName("c"), parseBranchName("e")),
      [["b", "c", "d", "main"], ["b", "d", "e", "main"]],
    ],
  ];
  for (const [what, change, outcomes] of steps) {
    test(what, async () => {
      for (const seed of seeds(20)) {
        for (let n = 1;; n++) {
          const scenario = new Scenario(seed);
          await scenario.fill();
          scenario.disk.failAt(n, { kind: "crash" });
          let done = true;
          try {
            await change(scenario);
          } catch (error) {
            assert.ok(
              error instanceof PowerLostError || error instanceof ZenithError && error.kind === "io",
              `seed ${seed}, operation ${n}: ${error}`,
            );
            done = false;
          }
          scenario.disk.crash();
          await scenario.parts().directories.recover();
          scenario.check();
          const names = scenario.names();
          assert.ok(
            outcomes.some((outcome) => outcome.join() === names.join()),
            `seed ${seed}, operation ${n}: ${names} are left`,
          );
          if (done) {
            assert.deepEqual(names, outcomes.at(-1), `seed ${seed}: what was acknowledged has happened`);
            break;
          }
        }
      }
    });
  }
});
