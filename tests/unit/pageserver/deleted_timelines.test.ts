import assert from "node:assert/strict";
import { test } from "node:test";
import { parseTenantId, parseTimelineId } from "../../../src/common/id.ts";
import { DeletedTimelines } from "../../../src/pageserver/tenant/deleted_timelines.ts";
import { FaultyDisk } from "../../harness/faulty_disk.ts";
import { Random } from "../../harness/random.ts";

const TENANT = parseTenantId("a".repeat(32));
const PATH = "/w/deleted_timelines";
const timeline = (digit: string) => parseTimelineId(digit.repeat(32));

function emptyDisk(): FaultyDisk {
  const disk = new FaultyDisk(new Random(1));
  disk.mkdirSync("/w");
  disk.fsyncDirSync("/");
  return disk;
}

const ids = (deleted: DeletedTimelines) => deleted.list.map(({ timelineId }) => timelineId);

test("deletions are remembered over a power failure, each once, the newest of them", async () => {
  const disk = emptyDisk();
  const deleted = new DeletedTimelines(disk, PATH, 3);
  await deleted.add(TENANT, [timeline("1"), timeline("2")]);
  await deleted.add(TENANT, [timeline("1"), timeline("3")]);
  disk.crash();
  assert.deepEqual(ids(new DeletedTimelines(disk, PATH, 3)), [timeline("2"), timeline("1"), timeline("3")]);
  await deleted.add(parseTenantId("b".repeat(32)), [timeline("4")]);
  assert.deepEqual(ids(deleted), [timeline("1"), timeline("3"), timeline("4")]);
});

test("with a damaged list nothing is known to be deleted", async () => {
  const disk = emptyDisk();
  await new DeletedTimelines(disk, PATH).add(TENANT, [timeline("1")]);
  const file = disk.openSync(PATH, "write");
  file.writeSync(Uint8Array.of(0), 0, 1, 40);
  file.closeSync();
  assert.deepEqual(ids(new DeletedTimelines(disk, PATH)), []);
});
