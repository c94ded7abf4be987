/** A real etcd of one member, as Debian has it. */
import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, openSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fetchTls } from "../../src/common/fetch_tls.ts";
import { findProgram } from "../../src/process/find_program.ts";
import { freePort } from "./ports.ts";
import { until } from "./zenith_env.ts";

/** Why etcd can't run here; undefined when it can. */
export function whyNoEtcd(): string | undefined {
  return findProgram("etcd") === undefined
    ? "there is no etcd: .ci/run installs etcd-server as root"
    : undefined;
}

/** Whom a secured etcd lets in, to keys that begin with `tests/`. */
const USER = "zenith";
const PASSWORD = "only this word lets in";

export class Etcd implements AsyncDisposable {
  readonly #dir = mkdtempSync(join(tmpdir(), "zenith-etcd-"));
  readonly #client: string;
  readonly #peer: string;
  /** Whether it speaks TLS alone, knows its clients by their certificates, and wants a password. */
  readonly #isSecured: boolean;
  #pid = 0;
  #ended = Promise.resolve();

  private constructor(port: number, peerPort: number, isSecured: boolean) {
    this.#client = `127.0.0.1:${port}`;
    this.#peer = `http://127.0.0.1:${peerPort}`;
    this.#isSecured = isSecured;
  }

  static async start(): Promise<Etcd> {
    const etcd = new Etcd(await freePort(), await freePort(), false);
    await etcd.start();
    return etcd;
  }

  static async startSecured(): Promise<Etcd> {
    const etcd = new Etcd(await freePort(), await freePort(), true);
    etcd.#makeCertificates();
    await etcd.start();
    etcd.#addUsers();
    return etcd;
  }

  file(name: string): string {
    return join(this.#dir, name);
  }

  /** As `places` of pageserver.toml names it. */
  get url(): string {
    return `etcd://${this.#client}/tests`;
  }

  /** With everything that a secured one wants. */
  get securedUrl(): string {
    const file = (name: string) => encodeURIComponent(this.file(name));
    const own = `cert=${file("client.pem")}&key=${file("client.key")}`;
    return `${this.url}?ca=${file("ca.pem")}&${own}&user=${USER}&password_file=${file("password")}`;
  }

  #makeCertificates(): void {
    const openssl = (...args: readonly string[]) => execFileSync("openssl", args, { stdio: "pipe" });
    const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    const to = (name: string) => ["-keyout", this.file(`${name}.key`), "-out", this.file(`${name}.pem`)];
    openssl("req", "-x509", "-days", "2", ...key, "-subj", "/CN=ca", ...to("ca"));
    writeFileSync(this.file("names"), "subjectAltName=IP:127.0.0.1\n");
    for (const name of ["server", "client"]) {
      // Its gateway takes no client's certificate with a common name.
      openssl("req", ...key, "-subj", `/O=${name}`, ...to(name));
      const [request, made] = [this.file(`${name}.pem`), this.file(`${name}.made`)];
      const by = ["-CA", this.file("ca.pem"), "-CAkey", this.file("ca.key"), "-CAcreateserial"];
      openssl(
        "x509",
        "-req",
        "-in",
        request,
        ...by,
        "-days",
        "2",
        "-extfile",
        this.file("names"),
        "-out",
        made,
      );
      renameSync(made, request);
    }
    writeFileSync(this.file("password"), `${PASSWORD}\n`);
  }

  #addUsers(): void {
    const file = (name: string) => this.file(name);
    const tls = ["--cacert", file("ca.pem"), "--cert", file("client.pem"), "--key", file("client.key")];
    const ctl = (...args: readonly string[]) =>
      execFileSync("etcdctl", ["--endpoints", `https://${this.#client}`, ...tls, ...args], {
        stdio: "pipe",
        env: { ...process.env, ETCDCTL_API: "3" },
      });
    ctl("user", "add", `root:${PASSWORD}`);
    ctl("user", "grant-role", "root", "root");
    ctl("role", "add", "tests");
    ctl("role", "grant-permission", "tests", "readwrite", "tests/", "--prefix=true");
    ctl("user", "add", `${USER}:${PASSWORD}`);
    ctl("user", "grant-role", USER, "tests");
    ctl("auth", "enable");
  }

  async start(): Promise<void> {
    const log = openSync(join(this.#dir, "log"), "a");
    const client = `${this.#isSecured ? "https" : "http"}://${this.#client}`;
    const file = (name: string) => this.file(name);
    const tls = this.#isSecured
      ? [
        ...["--client-cert-auth", "--trusted-ca-file", file("ca.pem")],
        ...["--cert-file", file("server.pem"), "--key-file", file("server.key")],
      ]
      : [];
    const options = this.#isSecured
      ? fetchTls({ ca: file("ca.pem"), own: { cert: file("client.pem"), key: file("client.key") } })
      : {};
    const child = spawn("etcd", [
      ...["--data-dir", join(this.#dir, "data"), "--name", "one"],
      ...["--listen-client-urls", client, "--advertise-client-urls", client],
      ...["--listen-peer-urls", this.#peer, "--initial-advertise-peer-urls", this.#peer],
      ...["--initial-cluster", `one=${this.#peer}`, ...tls],
    ], { stdio: ["ignore", log, log] });
    this.#pid = child.pid!;
    this.#ended = new Promise((resolve) => child.on("exit", () => resolve()));
    await until("etcd answers", async () => {
      return await fetch(`${client}/health`, options).then(({ ok }) => ok, () => false);
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
