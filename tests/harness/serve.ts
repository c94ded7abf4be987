/** `zenith serve` in an environment of a test's own, and what stock clients need to reach it. */
import { spawn } from "node:child_process";
import { createWriteStream, readFileSync } from "node:fs";
import { join } from "node:path";
import pg from "pg";
import { parseBranchName, type TenantId } from "../../src/common/id.ts";
import { checkPidFile, isRunning } from "../../src/process/pid_file.ts";
import { rolePasswords } from "../../src/compute/postgres/role_passwords.ts";
import { type ChildOutput, childOutput } from "./child_output.ts";
import { zenithCommand } from "./cli.ts";
import { freePort } from "./ports.ts";
import { clientProgram } from "./postgres_major.ts";
import { until, type ZenithEnv } from "./zenith_env.ts";

export const DOMAIN = "db.localhost";

const STOP_TIMEOUT_MS = 180_000;

export class Serve implements AsyncDisposable {
  readonly env: ZenithEnv;
  readonly httpPort: number;
  readonly postgresPort: number;
  /** Where it listens from its next start on. */
  host = "127.0.0.1";

  private constructor(env: ZenithEnv, httpPort: number, postgresPort: number) {
    this.env = env;
    this.httpPort = httpPort;
    this.postgresPort = postgresPort;
  }

  /** Starts it, and waits until it is there. @param args more for the command line */
  static async start(env: ZenithEnv, ...args: readonly string[]): Promise<Serve> {
    const serve = new Serve(env, await freePort(), await freePort());
    await serve.run(...args);
    return serve;
  }

  /** Starts it again, on the same ports. */
  async run(...args: readonly string[]): Promise<void> {
    const [file, ...prefix] = zenithCommand();
    const log = createWriteStream(this.logFile, { flags: "a" });
    const { host } = this;
    const ports = ["--http", `${host}:${this.httpPort}`, "--postgres", `${host}:${this.postgresPort}`];
    const child = spawn(file!, [...prefix, "serve", ...ports, ...args], {
      env: { ...process.env, ZENITH_REPO_DIR: this.env.repoDir },
      stdio: ["ignore", "pipe", "pipe"],
    });
    child.stderr.pipe(log);
    let printed = "";
    let ended: number | null | undefined;
    child.stdout.on("data", (chunk: Uint8Array) => printed += chunk.toString());
    child.on("exit", (code) => ended = code);
    await until("zenith serve is ready", () => {
      if (ended !== undefined) throw new Error(`zenith serve ended with ${ended}:\n${this.log()}`);
      return printed.includes("serving Postgres");
    });
  }

  get logFile(): string {
    return join(this.env.dir, "serve.log");
  }

  log(): string {
    return readFileSync(this.logFile, "utf8");
  }

  /** Its authority's certificate. */
  get ca(): string {
    return this.env.paths.auth.caCertificate;
  }

  /** Ends it as its service manager does, and all that it has started. */
  async stop(): Promise<void> {
    await this.#end("SIGTERM");
  }

  async kill9(): Promise<void> {
    await this.#end("SIGKILL");
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    const found = checkPidFile(this.env.paths.servePidFile);
    if (found.state !== "running") return;
    process.kill(found.process.pid, signal);
    // It stops each compute first.
    await until("zenith serve has ended", () => !isRunning(found.process), STOP_TIMEOUT_MS);
  }

  passwordOf(role: string, tenant: TenantId = this.env.defaultTenant): string {
    return rolePasswords(this.env.paths.pgpass(tenant)).get(role)!.password;
  }

  /** Whether the Postgres of a branch runs. */
  isAwake(branch: string, tenant: TenantId = this.env.defaultTenant): boolean {
    const { pidFile } = this.env.paths.compute(tenant, parseBranchName(branch));
    return checkPidFile(pidFile).state === "running";
  }

  /** A connection string of libpq's, as strict as can be. */
  conninfo(label: string, more = "", role = "zenith_owner"): string {
    return `host=${label}.${DOMAIN} hostaddr=127.0.0.1 port=${this.postgresPort} user=${role} dbname=postgres ` +
      `sslmode=verify-full sslrootcert=${this.ca} channel_binding=require ${more}`;
  }

  /** A client of node-postgres that has not connected. */
  client(label: string, more: pg.ClientConfig = {}): pg.Client {
    const client = new pg.Client({
      host: "127.0.0.1",
      port: this.postgresPort,
      user: "zenith_owner",
      password: this.passwordOf("zenith_owner"),
      database: "postgres",
      ssl: {
        ca: readFileSync(this.ca, "utf8"),
        servername: `${label}.${DOMAIN}`,
        checkServerIdentity: () => undefined,
      },
      ...more,
    });
    // One that is cut off says so by its query.
    client.on("error", () => {});
    return client;
  }

  async connected(label: string, more?: pg.ClientConfig): Promise<pg.Client> {
    const client = this.client(label, more);
    await client.connect();
    return client;
  }

  async tryPsql(conninfo: string, sql: string, password?: string): Promise<ChildOutput> {
    return await childOutput(
      spawn(clientProgram("psql"), ["-XAt", "-d", conninfo, "-c", sql], {
        env: { ...process.env, PGPASSWORD: password ?? this.passwordOf("zenith_owner") },
        stdio: ["ignore", "pipe", "pipe"],
      }),
    );
  }

  /** @returns what psql has printed @throws when it fails, with what it said */
  async psql(conninfo: string, sql: string, password?: string): Promise<string> {
    const { code, stdout, stderr } = await this.tryPsql(conninfo, sql, password);
    if (code !== 0) throw new Error(`psql: ${stderr}\n${this.log()}`);
    return stdout.trim();
  }

  /** In order: what it has mounted for computes goes with them. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}
