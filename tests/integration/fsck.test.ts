import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { after, before, describe, test } from "node:test";
import type { DataCheck } from "../../src/common/data_check.ts";
import { zenithCommand } from "../harness/cli.ts";
import { ZenithEnv } from "../harness/zenith_env.ts";

let env: ZenithEnv;
let timelines: string;

before(async () => {
  env = await ZenithEnv.create();
  await using main = await env.startCompute("main");
  await main.query("CREATE TABLE t AS SELECT n, md5(n::text) FROM generate_series(1, 20000) n");
  await env.untilArrived("main");
  await env.branch("dev", "main");
  await main.stop();
  timelines = env.paths.pageserver.timelines(env.defaultTenant);
});
after(() => env[Symbol.asyncDispose]());

describe("zenith fsck", () => {
  test("leaves a page server that runs alone", async () => {
    const { code, stderr } = await env.tryZenith("fsck", env.repoDir);
    assert.equal(code, 5);
    assert.match(stderr, /a page server, process \d+, works in .*"zenith stop" stops it/s);
    await env.zenith("stop");
  });

  test("finds nothing wrong with what a stopped page server has", async () => {
    const checks: DataCheck[] = JSON.parse(await env.zenith("fsck", env.repoDir, "--json"));
    assert.deepEqual(checks.flatMap(({ problems, strays }) => [...problems, ...strays]), []);
    const counted = checks.filter(({ path }) => path.startsWith(timelines));
    assert.ok(counted.some(({ walBytes }) => walBytes! > 0), "WAL of the page server is read");
    for (const { paths } of env.safekeepers) {
      const kept = checks.filter(({ path }) => path.startsWith(paths.workdir));
      assert.ok(kept.some(({ walBytes }) => walBytes! > 0), "WAL of each safekeeper is read");
    }
    assert.deepEqual(
      counted.map(({ path }) => path).sort(),
      readdirSync(timelines).map((id) => join(timelines, id)).sort(),
    );
    const printed = await env.zenith("fsck", env.paths.pageserver.tenant(env.defaultTenant));
    assert.match(printed, /^DIRECTORY +LAYERS +VERSIONS +SIZE +WAL +STATE\n/);
    assert.doesNotMatch(printed, /DAMAGED/);
  });

  test("tells of a bit that has changed, of what is named and gone, and of what a crash left", async () => {
    const [layer] = layerFiles();
    const sound = readFileSync(layer!);
    const damaged = Buffer.from(sound);
    damaged[damaged.length >> 1] ^= 1;
    writeFileSync(layer!, damaged);
    mkdirSync(join(timelines, "0123456789abcdef0123456789abcdef.deleted"));
    const branch = env.paths.pageserver.branch(env.defaultTenant, "lost" as never);
    writeFileSync(branch, "zenith branch 1\ntimeline 0123456789abcdef0123456789abcdef\n");
    const { code, stdout, stderr } = await env.tryZenith("fsck", env.repoDir);
    assert.equal(code, 1);
    assert.ok(stderr.includes(layer!), stderr);
    assert.match(stderr, /branch lost names timeline 0123456789abcdef0123456789abcdef, which is not there/);
    assert.match(stdout, /DAMAGED \(1\)/);
    assert.match(stdout, /1 left by a crash/);
    writeFileSync(layer!, sound);
  });

  test("tells of a bit in the WAL of the page server and of a safekeeper: file, place and remedy", async () => {
    const ours = segmentsIn(timelines);
    const theirs = segmentsIn(env.safekeepers[0].paths.workdir);
    assert.ok(ours.length > 0 && theirs.length > 0);
    for (const path of [ours[0], theirs[0]]) {
      const sound = readFileSync(path);
      const damaged = Buffer.from(sound);
      damaged[flippable(sound)] ^= 1;
      writeFileSync(path, damaged);
      const { code, stderr } = await env.tryZenith("fsck", dirname(path).replace(/\/wal$/, ""));
      assert.equal(code, 1, `byte ${flippable(sound)} of ${path}`);
      assert.ok(stderr.includes(`${path}, offset `), stderr);
      assert.match(
        stderr,
        /invalid WAL at 0\/[0-9A-F]+: .*\. (Stop the safekeeper|Copy the directory|The layers have)/,
      );
      writeFileSync(path, sound);
    }
  });

  test("tells of a branch whose ancestor is gone", async () => {
    const ancestor = readdirSync(timelines).find((id) => layersOf(id).length > 0)!;
    renameSync(join(timelines, ancestor), join(env.dir, "moved"));
    const { code, stderr } = await env.tryZenith("fsck", env.repoDir);
    assert.equal(code, 1);
    assert.match(
      stderr,
      new RegExp(`timeline [0-9a-f]{32} is a branch of timeline ${ancestor}, which is not there`),
    );
    renameSync(join(env.dir, "moved"), join(timelines, ancestor));
  });

  test("says where data would be when there are none", async () => {
    const { code, stderr } = await env.tryZenith("fsck", env.dir);
    assert.equal(code, 4);
    assert.match(stderr, /there are no data of a page server in .*name an environment's directory/s);
  });
});

describe("zenith dump layer", () => {
  test("shows the blocks of a layer, and their versions when asked", async () => {
    const [layer] = layerFiles();
    const blocks = (await env.zenith("dump", "layer", layer!)).trimEnd().split("\n");
    assert.match(blocks[0], /^delta layer, LSNs .* versions in \d+ blocks$/);
    const versions = (await env.zenith("dump", "layer", layer!, "--versions")).trimEnd().split("\n");
    assert.deepEqual(versions.filter((line) => !line.startsWith("  ")), blocks);
    assert.ok(versions.length > blocks.length);
  });

  test("says all of it to a reader who takes his time", async () => {
    const [layer] = layerFiles();
    const [file, ...args] = zenithCommand();
    const command = [file!, ...args, "dump", "layer", layer!, "--versions"];
    // Much more than a pipe holds, and the program has nothing more to do when the reader begins.
    const slow = spawnSync("sh", ["-c", '"$@" | (sleep 1; cat)', "sh", ...command], {
      encoding: "utf8",
      maxBuffer: 1 << 28,
    });
    assert.ok(slow.stdout.length > 1 << 17);
    assert.equal(slow.stdout, await env.zenith("dump", "layer", layer!, "--versions"));
  });
});

function layersOf(timeline: string): string[] {
  const directory = join(timelines, timeline);
  return readdirSync(directory).filter((name) => name.endsWith(".layer")).map((name) =>
    join(directory, name)
  );
}

function layerFiles(): string[] {
  return readdirSync(timelines).filter((name) => !name.endsWith(".deleted")).flatMap(layersOf);
}

function segmentsIn(directory: string): string[] {
  return readdirSync(directory, { recursive: true, encoding: "utf8" })
    .filter((name) => /(^|\/)[0-9A-F]{24}$/.test(name)).map((name) => join(directory, name)).sort();
}

/** A byte of the WAL in a segment that only its end is sure to have: one that is not padding. */
function flippable(segment: Uint8Array): number {
  const last = segment.findLastIndex((byte) => byte !== 0);
  return segment.findLastIndex((byte, i) => i < last - (256 << 10) && byte !== 0);
}
