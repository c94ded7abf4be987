import { V15 } from "../../../../src/postgres/versions/v15.ts";
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { clearImmediate, setImmediate } from "node:timers";
import { parse } from "valibot";
import { parseTenantId } from "../../../../src/common/id.ts";
import { NULL_LOGGER } from "../../../../src/process/log.ts";
import { PageServerConfigSchema } from "../../../../src/common/page_server_config.ts";
import { PageServerPaths } from "../../../../src/common/paths.ts";
import { basebackup } from "../../../../src/pageserver/service/basebackup.ts";
import { WalHead } from "../../../../src/pageserver/tenant/wal_head.ts";
import { PageServer } from "../../../../src/pageserver/service/page_server.ts";
import { pageImages } from "../../../../src/pageserver/content/rebuild_page.ts";
import { storedValues } from "../../../../src/pageserver/content/stored_values.ts";
import { flushHere, mergeHere } from "../../../../src/pagestore/mod.ts";
import { FaultyDisk } from "../../../harness/faulty_disk.ts";
import { Random } from "../../../harness/random.ts";
import { makeTinyCluster } from "../../../harness/tiny_cluster.ts";

const TENANT = parseTenantId("a".repeat(32));
const PATHS = new PageServerPaths("/w");

describe("a basebackup", () => {
  test("leaves others their turn, however fast it is read", async () => {
    const disk = new FaultyDisk(new Random(1));
    makeTinyCluster(disk, "/cluster");
    disk.mkdirsSync(PATHS.tenants);
    const server = await PageServer.open({
      disk,
      flushLayer: flushHere(disk, storedValues(V15)),
      mergeLayers: mergeHere(disk, pageImages(V15)),
      paths: PATHS,
      config: parse(PageServerConfigSchema, {}),
      logger: NULL_LOGGER,
      initialCluster: () => Promise.resolve("/cluster"),
    });
    await server.createTenant(TENANT);
    const { branches, timelines } = server.tenant(TENANT);
    const timeline = await timelines.get((await branches.list())[0]!.timelineId);
    const boundary = timeline.boundary(null);
    using head = await WalHead.open(timelines, timeline, boundary.lsn);
    let turns = 0;
    let turn = setImmediate(function again() {
      turns++;
      turn = setImmediate(again);
    });
    const turnsBefore: number[] = [];
    for await (const _ of basebackup(timeline, boundary, head)) turnsBefore.push(turns);
    clearImmediate(turn);
    await server.close();
    assert.ok(turnsBefore.length > 2, "it comes in more than one chunk");
    turnsBefore.reduce((before, after) => {
      assert.ok(after > before, `turns before each chunk: ${turnsBefore}`);
      return after;
    });
  });
});
