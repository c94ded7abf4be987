/** A Postgres in a control group of its own, with the kernel's own interface. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { postmasterPid } from "../../src/compute/postgres/postgres_process.ts";
import { loadEnvironment, saveEnvironment } from "../../src/control/environment.ts";
import { ZenithEnv } from "../harness/zenith_env.ts";

/** Where the kernel shows its control groups of version 2: the first such mount. */
const MOUNT = readFileSync("/proc/self/mountinfo", "utf8").split("\n")
  .filter((line) => / - cgroup2 /.test(line)).map((line) => line.split(" ")[4]!)[0];

const SKIP = process.getuid!() !== 0
  ? "only root can make a control group"
  : MOUNT === undefined && "there are no control groups of version 2";

describe("a Postgres with a control group", { skip: SKIP }, () => {
  let env: ZenithEnv;
  let parent: string;

  before(async () => {
    parent = join(MOUNT!, `zenith-test-${process.pid}`);
    mkdirSync(parent);
    env = await ZenithEnv.create({ safekeepers: 1 });
  });
  after(async () => {
    await env?.[Symbol.asyncDispose]();
    if (!existsSync(parent)) return;
    for (const entry of readdirSync(parent, { withFileTypes: true })) {
      if (entry.isDirectory()) rmdirSync(join(parent, entry.name));
    }
    rmdirSync(parent);
  });

  const configure = (compute: object) => {
    const { paths, config } = loadEnvironment(env.paths.root);
    saveEnvironment({ paths, config: { ...config, compute: { ...config.compute, ...compute } } as never });
  };

  test("is in it with all that it starts, and so is what its superuser starts", async () => {
    configure({ cgroup: parent });
    const compute = await env.startCompute("main");
    const group = join(parent, `${env.defaultTenant}.main`);
    const members = () => readFileSync(join(group, "cgroup.procs"), "utf8").trim().split("\n").map(Number);
    const postmaster = postmasterPid(compute.paths.pgdata)!;
    const children = spawnSync("ps", ["-o", "pid=", "--ppid", String(postmaster)], { encoding: "utf8" })
      .stdout
      .trim().split("\n").map(Number);
    assert.ok(children.length > 3);
    assert.ok(members().includes(postmaster));
    // A child that has ended since is in no group.
    const outside = children.filter((pid) => !members().includes(pid));
    assert.deepEqual(outside.filter((pid) => existsSync(`/proc/${pid}`)), []);
    assert.ok(!members().includes(process.pid));
    await compute.query(
      `COPY (SELECT 1) TO PROGRAM 'cat > /dev/null; grep -q "/${env.defaultTenant}.main$" /proc/self/cgroup'`,
    );
    await assert.rejects(
      compute.query(`COPY (SELECT 1) TO PROGRAM 'cat > /dev/null; echo $$ > ${MOUNT}/cgroup.procs'`),
      /program .* failed/,
    );
    await compute.stop();
    assert.ok(!existsSync(group), "the group goes with its Postgres");
  });

  test("has the limits that are configured, or is not started and says which controller is missing", async () => {
    configure({ memory_max_mb: 512, cpus: 1.5, processes_max: 200 });
    const controllers = readFileSync(join(parent, "cgroup.controllers"), "utf8").trim().split(" ");
    const missing = ["memory", "cpu", "pids"].find((name) => !controllers.includes(name));
    const started = await env.tryZenith("pg", "start", "main");
    if (missing !== undefined) {
      assert.notEqual(started.code, 0);
      assert.match(started.stderr, new RegExp(`${parent} has no ${missing} controller, only: `));
      assert.match(started.stderr, new RegExp(`echo \\+${missing} > `));
      return;
    }
    assert.equal(started.code, 0, started.stderr);
    const read = (name: string) =>
      readFileSync(join(parent, `${env.defaultTenant}.main`, name), "utf8").trim();
    assert.deepEqual(["memory.max", "cpu.max", "pids.max"].map(read), ["536870912", "150000 100000", "200"]);
    await env.zenith("pg", "stop", "main");
  });

  test("is not started where there is no control group", async () => {
    configure({ cgroup: env.dir });
    assert.match((await env.tryZenith("pg", "start", "main")).stderr, /is no control group of version 2/);
  });
});
