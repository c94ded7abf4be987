import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { ZenithError } from "../../../src/common/errors.ts";
import { type BranchName, parseBranchName, type TimelineId } from "../../../src/common/id.ts";
import { parseStartPoint } from "../../../src/pageserver/tenant/branch_files.ts";
import type { PageServer } from "../../../src/pageserver/service/page_server.ts";
import { type FaultyDisk, PowerLostError } from "../../harness/faulty_disk.ts";
import { openTinyPageServer, TINY_TENANT, tinyDisk } from "../../harness/tiny_page_server.ts";

const MAIN = parseBranchName("main");
const DEV = parseBranchName("dev");
const OLD = parseBranchName("dev-before");

interface Scene {
  readonly disk: FaultyDisk;
  readonly server: PageServer;
  /** The timelines of `main` and `dev`. */
  readonly main: TimelineId;
  readonly dev: TimelineId;
}

async function openScene(): Promise<Scene> {
  const disk = tinyDisk();
  const server = await openTinyPageServer(disk);
  await server.createTenant(TINY_TENANT);
  const { branches } = server.tenant(TINY_TENANT);
  const dev = (await branches.create(DEV, parseStartPoint("main"))).timelineId;
  const main = (await timelinesByName(server)).get(MAIN)!;
  disk.syncAll();
  return { disk, server, main, dev };
}

async function timelinesByName(server: PageServer): Promise<Map<BranchName, TimelineId>> {
  const branches = await server.tenant(TINY_TENANT).branches.list();
  return new Map(branches.map(({ name, timelineId }) => [name, timelineId]));
}

const refusedAs = (kind: string, message: RegExp) => (error: unknown) =>
  error instanceof ZenithError && error.kind === kind && message.test(error.message);

describe("restoring a branch", () => {
  test("gives its name to a new timeline and deletes the one it had", async () => {
    const { server, main, dev } = await openScene();
    const { branch, deleted } = await server.restoreBranch(TINY_TENANT, DEV, parseStartPoint("main"), null);
    assert.deepEqual(deleted, [dev]);
    assert.equal(branch.ancestorId, main);
    assert.notEqual(branch.timelineId, dev);
    assert.deepEqual(await timelinesByName(server), new Map([[DEV, branch.timelineId], [MAIN, main]]));
    await assert.rejects(
      server.tenant(TINY_TENANT).timelines.hold(dev),
      refusedAs("not_found", /no timeline/),
    );
    await server.close();
  });

  test("keeps what it was under another name, for good", async () => {
    const { server, dev } = await openScene();
    const { branches } = server.tenant(TINY_TENANT);
    await branches.setExpiry(DEV, Date.now() + 3_600_000);
    const { branch, deleted } = await server.restoreBranch(TINY_TENANT, DEV, parseStartPoint("dev"), OLD);
    assert.deepEqual(deleted, []);
    assert.equal(branch.ancestorId, dev);
    const listed = new Map((await branches.list()).map((branch) => [branch.name, branch]));
    assert.equal(listed.get(OLD)?.timelineId, dev);
    assert.equal(listed.get(OLD)?.expiresMs, null);
    assert.notEqual(listed.get(DEV)?.expiresMs, null);
    await server.close();
  });

  test("is refused when what it was is still needed, and leaves nothing behind", async () => {
    const { server } = await openScene();
    const before = await timelinesByName(server);
    const restore = (start: string, keepAs: BranchName | null = null) =>
      server.restoreBranch(TINY_TENANT, DEV, parseStartPoint(start), keepAs);
    await assert.rejects(restore("dev"), refusedAs("conflict", /in its own past/));
    await assert.rejects(restore("nowhere"), refusedAs("not_found", /nowhere/));
    await assert.rejects(restore("main", MAIN), refusedAs("already_exists", /main/));
    await assert.rejects(restore("main", parseBranchName("reset")), refusedAs("invalid_argument", /reset/));
    const { branches } = server.tenant(TINY_TENANT);
    await branches.create(parseBranchName("child"), parseStartPoint("dev"));
    await assert.rejects(restore("main"), refusedAs("conflict", /other branches come from it/));
    await branches.delete(parseBranchName("child"), false, () => false);
    await assert.rejects(branches.restore(DEV, parseStartPoint("main"), null, () => true), /a Postgres runs/);
    await branches.protect(DEV, true);
    await assert.rejects(restore("main"), refusedAs("conflict", /protected/));
    await assert.rejects(branches.delete(DEV, false, () => false), refusedAs("conflict", /protected/));
    await assert.rejects(branches.setExpiry(DEV, Date.now()), refusedAs("conflict", /protected/));
    await branches.protect(DEV, false);
    const survey = await branches.survey();
    assert.deepEqual(survey.damaged, []);
    assert.deepEqual(await timelinesByName(server), before);
    await server.close();
  });

  for (const keepAs of [null, OLD]) {
    const what = keepAs === null ? "or the new one" : "or the new one, and what it was";
    test(`leaves the branch as it was ${what}, when the power fails at any operation`, async () => {
      const outcomes = new Set<string>();
      for (let n = 1;; n++) {
        const { disk, server, main, dev } = await openScene();
        disk.failAt(n, { kind: "crash" });
        let done = true;
        try {
          await server.restoreBranch(TINY_TENANT, DEV, parseStartPoint("main"), keepAs);
        } catch (error) {
          assert.ok(
            error instanceof PowerLostError || error instanceof ZenithError,
            `operation ${n}: ${error}`,
          );
          done = false;
        }
        await server.close().catch(() => {});
        disk.crash();
        const again = await openTinyPageServer(disk);
        const { branches, damaged } = await again.tenant(TINY_TENANT).branches.survey();
        const found = new Map(branches.map(({ name, timelineId }) => [name, timelineId]));
        const unnamed = damaged.map(({ timelineId }) => timelineId);
        assert.equal(found.get(MAIN), main, `operation ${n}`);
        const now = found.get(DEV);
        const isKept = [...found.values(), ...unnamed].includes(dev);
        // The name may be missing between two renames; the data never are.
        assert.ok(
          now !== undefined || (keepAs !== null && found.get(keepAs) === dev),
          `operation ${n}: no ${DEV}`,
        );
        assert.ok(isKept || (keepAs === null && now !== dev), `operation ${n}: the data are gone`);
        outcomes.add(now === undefined ? "unnamed" : now === dev ? "before" : "after");
        if (done) assert.ok(now !== undefined && now !== dev, "what was acknowledged has happened");
        await again.close();
        if (done) break;
      }
      assert.ok(outcomes.has("before") && outcomes.has("after"), [...outcomes].join());
    });
  }
});
