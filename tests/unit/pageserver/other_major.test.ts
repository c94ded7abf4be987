/**
 * A timeline of another major than its files, or than this Zenith runs, is refused by name; what
 * does not need it works.
 */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { parseBranchName, type TimelineId } from "../../../src/common/id.ts";
import { decodeTimelineInfo, encodeTimelineInfo } from "../../../src/pageserver/timeline/timeline_info.ts";
import { readMetadata, writeMetadata } from "../../../src/pagestore/files/timeline_metadata.ts";
import type { FaultyDisk } from "../../harness/faulty_disk.ts";
import { openTinyPageServer, TINY_PATHS, TINY_TENANT, tinyDisk } from "../../harness/tiny_page_server.ts";

const MAIN = parseBranchName("main");
const CHILD = parseBranchName("child");

/** A stopped server of PostgreSQL 15 with two branches. */
async function twoBranches(disk: FaultyDisk): Promise<{ main: TimelineId; child: TimelineId }> {
  const server = await openTinyPageServer(disk);
  await server.createTenant(TINY_TENANT);
  const { branches } = server.tenant(TINY_TENANT);
  await branches.create(CHILD, { branch: MAIN, timelineId: null, lsn: null, timestamp: null });
  const ids = new Map((await branches.list()).map(({ name, timelineId }) => [name, timelineId]));
  await server.close();
  return { main: ids.get(MAIN)!, child: ids.get(CHILD)! };
}

async function setMajor(disk: FaultyDisk, id: TimelineId, pgMajor: number): Promise<void> {
  const directory = TINY_PATHS.timeline(TINY_TENANT, id);
  const metadata = readMetadata(disk, directory);
  const info = decodeTimelineInfo(metadata.userData, directory);
  await writeMetadata(disk, directory, { ...metadata, userData: encodeTimelineInfo({ ...info, pgMajor }) });
}

describe("a timeline of another major", () => {
  test("that this Zenith does not run is refused with its name, and its parent works", async () => {
    const disk = tinyDisk();
    const { main, child } = await twoBranches(disk);
    await setMajor(disk, child, 27);
    const server = await openTinyPageServer(disk);
    const { timelines } = server.tenant(TINY_TENANT);
    await assert.rejects(timelines.hold(child), /the timeline is of PostgreSQL 27, this Zenith runs 14, 15/);
    assert.equal((await timelines.hold(main)).value.pg.major, 15);
    await server.close();
  });

  test("than its layers are of is refused with both", async () => {
    const disk = tinyDisk();
    const { main } = await twoBranches(disk);
    await setMajor(disk, main, 17);
    const server = await openTinyPageServer(disk);
    await assert.rejects(
      server.tenant(TINY_TENANT).timelines.hold(main),
      /layer .* has values of format 15, those of its timeline are of format 17/,
    );
    await server.close();
  });

  test("than its control file is of, its ancestor's, is refused with both", async () => {
    const disk = tinyDisk();
    const { main, child } = await twoBranches(disk);
    await setMajor(disk, child, 17);
    const server = await openTinyPageServer(disk);
    const { timelines } = server.tenant(TINY_TENANT);
    await assert.rejects(
      timelines.hold(child),
      /the metadata is of PostgreSQL 17, the control file of 15/,
    );
    assert.equal((await timelines.hold(main)).value.pg.major, 15);
    await server.close();
  });
});
