/** Bits that change in what nobody reads, while the servers run. */
import assert from "node:assert/strict";
import { closeSync, openSync, readdirSync, readFileSync, readSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { formatHostPort } from "../../src/common/host_port.ts";
import { until, ZenithEnv } from "../harness/zenith_env.ts";

let env: ZenithEnv;

before(async () => {
  env = await ZenithEnv.create({ safekeepers: 1 });
  await env.zenith("stop");
  writeFileSync(env.paths.pageserver.config, "scrub_pause_s = 1\ngc_period_s = 3600\n");
  const [{ paths, id, address }] = env.safekeepers as [typeof env.safekeepers[number]];
  const where = ["-D", paths.workdir, "-l", formatHostPort(address), "--id", String(id)];
  const pageServer = ["--pageserver", formatHostPort(env.pageserver.address)];
  const scrub = ["--scrub-pause", "1s"];
  await env.zenith("safekeeper", ...where, ...pageServer, ...env.authOptions, ...scrub, "--daemonize");
  await env.pageserver.start();
  await using main = await env.startCompute("main");
  await main.query("CREATE TABLE t AS SELECT n, md5(n::text) FROM generate_series(1, 20000) n");
  await env.untilArrived("main");
});
after(() => env[Symbol.asyncDispose]());

function filesIn(directory: string, name: RegExp): string[] {
  return readdirSync(directory, { recursive: true, encoding: "utf8" })
    .filter((path) => name.test(path)).map((path) => join(directory, path)).sort();
}

/** In place, as a disk does it. */
function flip(path: string, at: number): void {
  const fd = openSync(path, "r+");
  const byte = new Uint8Array(1);
  readSync(fd, byte, 0, 1, at);
  byte[0] ^= 1;
  writeSync(fd, byte, 0, 1, at);
  closeSync(fd);
}

/** A byte of the WAL in a segment that is no padding, well below the end. */
function flippable(path: string): number {
  const segment = readFileSync(path);
  const last = segment.findLastIndex((byte) => byte !== 0);
  return segment.findLastIndex((byte, i) => i < last - (256 << 10) && byte !== 0);
}

async function problem(): Promise<string | undefined> {
  const { stdout } = await env.tryZenith("status");
  return /^problem: .*\nhint: .*$/m.exec(stdout)?.[0];
}

async function expectTold(path: string, at: number, told: RegExp): Promise<void> {
  flip(path, at);
  await until(`status tells of ${path}`, async () => (await problem())?.includes(path) ?? false);
  assert.match((await problem())!, told);
  assert.equal((await env.tryZenith("status")).code, 3);
  flip(path, at);
  await until("it is sound again", async () => await problem() === undefined);
  assert.match(await env.zenith("status"), /^all is well$/m);
}

describe("one flipped bit that nobody reads is told by status and the log", () => {
  test("in a running safekeeper's WAL below the commit LSN", async () => {
    const [{ paths }] = env.safekeepers as [typeof env.safekeepers[number]];
    const [segment] = filesIn(paths.workdir, /\/[0-9A-F]{24}$/);
    await expectTold(
      segment!,
      flippable(segment!),
      /safekeeper 1 has damaged files of timeline [0-9a-f]{32}: .*\nhint: Stop the safekeeper/,
    );
    assert.match(env.safekeepers[0].log(), /"msg":"damaged: .*offset/);
  });

  test("in the page server's WAL", async () => {
    const [segment] = filesIn(env.paths.pageserver.timelines(env.defaultTenant), /\/wal\/[0-9A-F]{24}$/);
    await expectTold(
      segment!,
      flippable(segment!),
      /the page server has damaged files of timeline .*\nhint: (Copy the directory|The layers have)/,
    );
  });

  test("in a layer", async () => {
    const [layer] = filesIn(env.paths.pageserver.timelines(env.defaultTenant), /\.layer$/);
    const at = readFileSync(layer!).length >> 1;
    await expectTold(layer!, at, /the page server has damaged files .*\nhint: put the file back from a copy/);
    assert.match(env.pageserver.log(), /"msg":"damaged: .*\.layer/);
  });
});
