/** A real etcd of one member, as Debian has it. */
import { spawn } from "node:child_process";
import { mkdtempSync, openSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { findProgram } from "../../src/process/find_program.ts";
import { freePort } from "./ports.ts";
import { until } from "./zenith_env.ts";

/** Why etcd can't run here; undefined when it can. */
export function whyNoEtcd(): string | undefined {
  return findProgram("etcd") === undefined
    ? "there is no etcd: .ci/run installs etcd-server as root"
    : undefined;
}

export class Etcd implements AsyncDisposable {
  readonly #dir = mkdtempSync(join(tmpdir(), "zenith-etcd-"));
  readonly #client: string;
  readonly #peer: string;
  #pid = 0;
  #ended = Promise.resolve();

  private constructor(port: number, peerPort: number) {
    this.#client = `127.0.0.1:${port}`;
    this.#peer = `http://127.0.0.1:${peerPort}`;
  }

  static async start(): Promise<Etcd> {
    const etcd = new Etcd(await freePort(), await freePort());
    await etcd.start();
    return etcd;
  }

  /** As `places` of pageserver.toml names it. */
  get url(): string {
    return `etcd://${this.#client}/tests`;
  }

  async start(): Promise<void> {
    const log = openSync(join(this.#dir, "log"), "a");
    const client = `http://${this.#client}`;
    const child = spawn("etcd", [
      ...["--data-dir", join(this.#dir, "data"), "--name", "one"],
      ...["--listen-client-urls", client, "--advertise-client-urls", client],
      ...["--listen-peer-urls", this.#peer, "--initial-advertise-peer-urls", this.#peer],
      ...["--initial-cluster", `one=${this.#peer}`],
    ], { stdio: ["ignore", log, log] });
    this.#pid = child.pid!;
    this.#ended = new Promise((resolve) => child.on("exit", () => resolve()));
    await until("etcd answers", async () => {
      return await fetch(`${client}/health`).then(({ ok }) => ok, () => false);
    });
  }

  async kill9(): Promise<void> {
    process.kill(this.#pid, "SIGKILL");
    this.#pid = 0;
    await this.#ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#pid !== 0) await this.kill9();
    rmSync(this.#dir, { recursive: true, force: true });
  }
}
