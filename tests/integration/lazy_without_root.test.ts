/** A lazy compute of somebody who is not root: fusermount3 mounts for it. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { chmodSync, mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { findProgram } from "../../src/process/find_program.ts";
import { checkPidFile, isRunning } from "../../src/process/pid_file.ts";
import { postmasterPid } from "../../src/compute/postgres/postgres_process.ts";
import { pgUser } from "../../src/pg_install/pg_user.ts";
import { runZenith, zenithCommand } from "../harness/cli.ts";
import { isMounted, mountOptions } from "../harness/lazy_files.ts";
import { type Compute, until, ZenithEnv } from "../harness/zenith_env.ts";

/** Who isn't root, here: undefined when we aren't ourselves. */
const user = pgUser();
const whoAmI = { uid: user?.uid ?? process.getuid!(), gid: user?.gid ?? process.getgid!() };

function whyNot(): string | false {
  if (findProgram("fusermount3") === undefined) return "there is no fusermount3 (package fuse3)";
  const run = spawnSync("test", ["-r", "/dev/fuse", "-a", "-w", "/dev/fuse"], whoAmI);
  return run.status !== 0 && `/dev/fuse is not for uid ${whoAmI.uid} to use`;
}

const skip = whyNot();

describe("a lazy compute without root", { skip }, () => {
  let env: ZenithEnv;
  let compute: Compute;

  before(async () => {
    if (skip !== false) return;
    env = await ZenithEnv.create({ storage: "lazy", ...(user === undefined ? {} : { cli: { user } }) });
    compute = await env.startCompute("main");
    await compute.query(
      "CREATE TABLE t AS SELECT n, repeat('x', 500) AS filler FROM generate_series(1, 5000) n",
    );
  });
  after(() => env?.[Symbol.asyncDispose]());

  test("has its mount from fusermount3, for itself alone", () => {
    assert.match(mountOptions(compute.paths)!, new RegExp(`user_id=${whoAmI.uid},`));
    assert.doesNotMatch(mountOptions(compute.paths)!, /allow_other/);
  });

  test("is named by doctor, which says what its superuser can reach", async () => {
    const { stdout } = await env.tryZenith("doctor");
    const { root } = env.paths;
    assert.match(stdout, new RegExp(`runs as uid ${whoAmI.uid}, as Zenith does: .*change all in ${root} `));
  });

  test("reads after a restart what it has written, and leaves no mount when it is stopped", async () => {
    await compute.restart();
    assert.equal(await compute.value("SELECT count(filler) || ' ' || sum(n) FROM t"), "5000 12502500");
    await compute.query("UPDATE t SET n = -n");
    await compute.stop();
    assert(!isMounted(compute.paths));
    await compute.start();
    assert.equal(await compute.value("SELECT sum(n) FROM t"), "-12502500");
  });

  test("ends when its supervisor is killed, and can be started again", async () => {
    const found = checkPidFile(compute.paths.pidFile);
    assert(found.state === "running");
    process.kill(found.process.pid, "SIGKILL");
    await until("the supervisor has ended", () => !isRunning(found.process));
    await until("Postgres has ended", () => postmasterPid(compute.paths.pgdata) === undefined);
    await compute.start();
    assert.equal(await compute.value("SELECT count(filler) || ' ' || sum(n) FROM t"), "5000 -12502500");
  });

  test("is what doctor finds possible", async () => {
    assert.match(await env.zenith("doctor"), /^ok +lazy computes:/m);
  });
});

test("a service that may gain no privileges is told so, and gets eager computes", { skip }, async () => {
  const command = ["setpriv", "--no-new-privs", ...zenithCommand()];
  const cli = { command, ...(user === undefined ? {} : { user }) };
  await using env = await ZenithEnv.create({ storage: "auto", cli });
  assert.match(
    await env.zenith("doctor"),
    /lazy computes: not possible: \S+fusermount3 can't become root here \(no new privileges\)/,
  );
  const compute = await env.startCompute("main");
  assert(!isMounted(compute.paths));
  assert.equal(await compute.value("SELECT 1"), 1);
});

const onlyRoot = user === undefined ? "only root can hide it" : skip;

test("doctor says that /etc/mtab is missing where it is", { skip: onlyRoot }, async () => {
  const withoutEtc =
    'mount -t tmpfs none /etc && exec setpriv --reuid "$0" --regid "$1" --clear-groups "${@:2}"';
  const ids = [whoAmI.uid, whoAmI.gid].map(String);
  const command = ["unshare", "--mount", "bash", "-c", withoutEtc, ...ids, ...zenithCommand()];
  const doctor = await runZenith(["doctor"], { ZENITH_REPO_DIR: "/tmp/none" }, { command });
  assert.match(doctor.stdout, /lazy computes: not possible: \S+fusermount3 needs \/etc\/mtab/);
});

test("doctor says that fusermount3 is missing where it is", async () => {
  const bin = mkdtempSync(join(tmpdir(), "zenith-test-path-"));
  try {
    chmodSync(bin, 0o755);
    for (const name of ["setpriv", "id", "test"]) symlinkSync(findProgram(name)!, join(bin, name));
    const env = { PATH: bin, ZENITH_REPO_DIR: join(bin, "none") };
    const doctor = await runZenith(["doctor"], env, user === undefined ? {} : { user });
    assert.match(
      doctor.stdout,
      /lazy computes: not possible: without root it needs fusermount3 \(package fuse3\)/,
    );
  } finally {
    rmSync(bin, { recursive: true });
  }
});
