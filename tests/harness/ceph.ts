/**
 * A real S3 server: Ceph's gateway on a monitor and one OSD in memory, as Debian has them. It takes a
 * minute to start, so one serves all tests of a file.
 */
import { spawn, spawnSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import { closeSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { findProgram } from "../../src/process/find_program.ts";
import { freePort } from "./ports.ts";
import { until } from "./zenith_env.ts";

const PROGRAMS = ["ceph", "ceph-authtool", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin"];

/** Why Ceph can't run here; undefined when it can. */
export function whyNoCeph(): string | undefined {
  const missing = PROGRAMS.filter((name) => findProgram(name) === undefined);
  if (missing.length > 0) {
    return `Ceph is not installed (no ${missing.join(", ")}): .ci/run installs it as root`;
  }
  return process.getuid?.() === 0 ? undefined : "Ceph's daemons are started as root";
}

export interface CephUser {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
}

const START_TIMEOUT_MS = 180_000;

export class Ceph implements AsyncDisposable {
  /** `http://127.0.0.1:<port>` */
  readonly endpoint: string;
  readonly user: CephUser = { accessKeyId: "tests", secretAccessKey: "a secret of the tests" };
  readonly #dir: string;
  readonly #pids: number[] = [];

  private constructor(dir: string, port: number) {
    this.#dir = dir;
    this.endpoint = `http://127.0.0.1:${port}`;
  }

  /** @param deviceBytes how much it can store, in memory */
  static async start(deviceBytes = 1 << 30): Promise<Ceph> {
    const dir = mkdtempSync(join(tmpdir(), "zenith-ceph-"));
    const port = await freePort();
    const ceph = new Ceph(dir, port);
    try {
      await ceph.#start(port, deviceBytes);
      return ceph;
    } catch (error) {
      await ceph[Symbol.asyncDispose]();
      throw error;
    }
  }

  async #start(port: number, deviceBytes: number): Promise<void> {
    const dir = this.#dir;
    for (const name of ["mon", "osd", "rgw", "run"]) mkdirSync(join(dir, name));
    const fsid = randomUUID();
    const monitor = `v2:127.0.0.1:${await freePort()}`;
    writeFileSync(join(dir, "ceph.conf"), configuration(dir, fsid, monitor, deviceBytes));
    const keyring = join(dir, "keyring");
    const osdId = randomUUID();
    this.#run(
      "ceph-authtool",
      "--create-keyring",
      keyring,
      "--gen-key",
      "-n",
      "mon.",
      "--cap",
      "mon",
      "allow *",
    );
    for (
      const [name, ...caps] of [
        ["client.admin", "mon", "allow *", "osd", "allow *", "mgr", "allow *"],
        ["osd.0", "mon", "allow profile osd", "osd", "allow *"],
      ]
    ) {
      const pairs = [];
      for (let i = 0; i < caps.length; i += 2) pairs.push("--cap", caps[i]!, caps[i + 1]!);
      this.#run("ceph-authtool", keyring, "--gen-key", "-n", name!, ...pairs);
    }
    this.#run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", `[${monitor}]`, join(dir, "monmap"));
    this.#run("ceph-mon", "--mkfs", "-i", "a", "--monmap", join(dir, "monmap"), "--keyring", keyring);
    this.#spawn("ceph-mon", "-f", "-i", "a");
    this.#run("ceph", "-n", "client.admin", "--connect-timeout", "60", "auth", "import", "-i", keyring);
    this.#run("ceph", "-n", "client.admin", "osd", "new", osdId);
    this.#run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osdId);
    this.#spawn("ceph-osd", "-f", "-i", "0");
    this.#spawn("radosgw", "-f", "-n", "client.admin", "--rgw_frontends", `beast endpoint=127.0.0.1:${port}`);
    await until("Ceph's gateway answers", () => this.#answers(), START_TIMEOUT_MS);
    const { accessKeyId, secretAccessKey } = this.user;
    const keys = ["--access-key", accessKeyId, "--secret-key", secretAccessKey];
    this.#run(
      "radosgw-admin",
      "-n",
      "client.admin",
      "user",
      "create",
      "--uid",
      "t",
      "--display-name",
      "t",
      ...keys,
    );
  }

  async #answers(): Promise<boolean> {
    try {
      return (await fetch(this.endpoint)).status === 200;
    } catch {
      return false;
    }
  }

  #run(program: string, ...args: string[]): void {
    const run = spawnSync(program, ["-c", join(this.#dir, "ceph.conf"), ...args], { encoding: "utf8" });
    if (run.status !== 0) throw new Error(`${program} ${args.join(" ")}: ${run.stderr}${run.stdout}`);
  }

  #spawn(program: string, ...args: string[]): void {
    const log = openSync(join(this.#dir, `${program}.out`), "a");
    const child = spawn(program, ["-c", join(this.#dir, "ceph.conf"), ...args], {
      stdio: ["ignore", log, log],
    });
    closeSync(log);
    this.#pids.push(child.pid!);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const pid of this.#pids.reverse()) {
      try {
        process.kill(pid, "SIGKILL");
      } catch {
        // It has ended by itself.
      }
    }
    await until("Ceph has ended", () => this.#pids.every((pid) => !isAlive(pid)));
    rmSync(this.#dir, { recursive: true, force: true });
  }
}

function isAlive(pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return false;
  }
}

function configuration(dir: string, fsid: string, monitor: string, deviceBytes: number): string {
  return `[global]
fsid = ${fsid}
mon_host = [${monitor}]
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
auth_allow_insecure_global_id_reclaim = true
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_crush_chooseleaf_type = 0
mon_allow_pool_size_one = true
osd_pool_default_pg_num = 1
osd_pool_default_pgp_num = 1
mon_max_pg_per_osd = 1000
run_dir = ${dir}/run
admin_socket = ${dir}/run/$name.asok
log_file = ${dir}/run/$name.log
pid_file = ${dir}/run/$name.pid
mon_data = ${dir}/mon
osd_data = ${dir}/osd
osd_objectstore = memstore
memstore_device_bytes = ${deviceBytes}
osd_memory_target = 939524096
mon_pg_warn_min_per_osd = 0
keyring = ${dir}/keyring
debug_ms = 0
[client.admin]
rgw_dns_name = localhost
rgw_data = ${dir}/rgw
`;
}
