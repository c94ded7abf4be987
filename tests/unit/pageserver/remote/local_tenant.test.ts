import assert from "node:assert/strict";
import { test } from "node:test";
import { replaceFileSync } from "../../../../src/common/disk.ts";
import { parseTimelineId } from "../../../../src/common/id.ts";
import { TenantDirectory } from "../../../../src/pageserver/remote/local_tenant.ts";
import { TINY_PATHS, TINY_TENANT, tinyDisk } from "../../../harness/tiny_page_server.ts";

const TIMELINE = parseTimelineId("c".repeat(32));

test("a tenant's directory shows every change, also of one moment, and leaves out what is not its own", () => {
  const disk = tinyDisk();
  const root = TINY_PATHS.tenant(TINY_TENANT);
  const directory = new TenantDirectory(disk, TINY_PATHS, TINY_TENANT);
  assert.equal(directory.read(), null);
  const timeline = TINY_PATHS.timeline(TINY_TENANT, TIMELINE);
  for (const path of [TINY_PATHS.branches(TINY_TENANT), `${timeline}/wal`, `${timeline}x`]) {
    disk.mkdirsSync(path);
  }
  const write = (folder: string, name: string, text: string) =>
    replaceFileSync(disk, folder, `${folder}/${name}`, new TextEncoder().encode(text));
  for (const name of ["00000001.layer", "leases.tmp", ".hidden", "has blank"]) write(timeline, name, "no");
  write(`${timeline}/wal`, "000000010000000000000001", "no");
  for (let i = 0; i < 100; i++) {
    write(root, "config.toml", `config ${i}`);
    write(timeline, "metadata", `metadata ${i}`);
    write(timeline, "slots", `slots ${i}`);
    const { files, timelines } = directory.read()!;
    const text = (bytes: Uint8Array | null | undefined) => new TextDecoder().decode(bytes!);
    assert.deepEqual([...files].map(([path, bytes]) => [path, text(bytes)]), [
      ["config.toml", `config ${i}`],
      [`timelines/${TIMELINE}/slots`, `slots ${i}`],
    ]);
    assert.deepEqual([...timelines].map(([id, bytes]) => [id, text(bytes)]), [[TIMELINE, `metadata ${i}`]]);
  }
});
