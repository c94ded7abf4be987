/** Runs one PgBouncer, in transaction mode, in front of the Postgres of a compute. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { chmodSync, chownSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { join } from "node:path";
import { rolePasswords } from "../../compute/postgres/role_passwords.ts";
import { computeUser } from "../../compute/postgres/compute_user.ts";
import { ZenithError } from "../../common/errors.ts";
import type { HostPort } from "../../common/host_port.ts";
import { listen } from "../../common/listen.ts";
import { sleep } from "../../common/sleep.ts";
import type { ComputeInfo } from "../../control/computes.ts";
import { lastLines } from "../../control/log_file.ts";
import { ZENITH_SUPERUSER } from "../../pg_install/initdb.ts";
import { asUser } from "../../pg_install/pg_user.ts";
import { findProgram } from "../../process/find_program.ts";

/** Debian installs it there, which is not on everybody's path. */
const DEBIANS = "/usr/sbin/pgbouncer";

const HOST = "127.0.0.1";
const START_TIMEOUT_MS = 10_000;
const START_POLL_MS = 5;

/** Sessions of Postgres that nobody has needed for that long are ended. */
const SERVER_IDLE_S = 60;
/** How many statements by name each session of Postgres keeps, where PgBouncer can have them. */
const PREPARED_STATEMENTS = 1_000;
/** The first PgBouncer that can. */
const PREPARES_FROM = [1, 21];

export interface PgBouncerOptions {
  readonly program: string;
  /** Its own, which is made. */
  readonly directory: string;
  readonly compute: ComputeInfo;
  /** Sessions of Postgres for each role and database. */
  readonly poolSize: number;
  readonly maxClients: number;
}

export interface PgBouncer {
  readonly address: HostPort;
  /** Settles when it has ended by itself or was killed. */
  readonly ended: Promise<void>;
  /** Ends it at once, with all sessions through it. */
  kill(): Promise<void>;
}

/** Where PgBouncer is; undefined when it isn't installed. */
export function findPgBouncer(): string | undefined {
  return findProgram("pgbouncer") ?? (existsSync(DEBIANS) ? DEBIANS : undefined);
}

/** @throws {ZenithError} `io` when it does not start, with the end of its log */
export async function startPgBouncer(options: PgBouncerOptions): Promise<PgBouncer> {
  const { program, directory, compute } = options;
  const user = computeUser(compute.paths);
  const address = { host: HOST, port: await anyPort() };
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const files = filesOf(directory);
  const { password } = rolePasswords(compute.paths.pgpass).get(ZENITH_SUPERUSER)!;
  writeFileSync(files.users, `"${ZENITH_SUPERUSER}" "${password}"\n`, { mode: 0o600 });
  writeFileSync(files.config, configuration(options, address.port), { mode: 0o600 });
  if (user !== undefined) {
    for (const path of [files.users, files.config, directory]) chownSync(path, user.uid, user.gid);
  }
  chmodSync(directory, 0o700);
  const child = spawn(program, ["-q", files.config], { ...asUser(user), cwd: directory, stdio: "ignore" });
  const ended = endOf(child);
  const bouncer = {
    address,
    ended,
    kill: async () => {
      child.kill("SIGKILL");
      await ended;
    },
  };
  let isOver = false;
  void ended.then(() => isOver = true);
  const deadline = performance.now() + START_TIMEOUT_MS;
  while (!await answers(address)) {
    if (isOver || performance.now() > deadline) {
      await bouncer.kill();
      throw new ZenithError("io", `PgBouncer did not start: ${lastWords(files.log)}`);
    }
    await sleep(START_POLL_MS);
  }
  return bouncer;
}

/** Ends the one that an earlier `zenith serve`, which was killed, has left with this directory. */
export function killLeftOver(directory: string): void {
  const { pid: file, config } = filesOf(directory);
  if (!existsSync(file)) return;
  const pid = Number(readFileSync(file, "utf8"));
  if (!Number.isInteger(pid) || pid <= 1) return;
  try {
    // Its number may be another's by now.
    if (readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0").includes(config)) {
      process.kill(pid, "SIGKILL");
    }
  } catch {
    // It has ended.
  }
}

function filesOf(directory: string) {
  return {
    config: join(directory, "pgbouncer.ini"),
    users: join(directory, "users"),
    log: join(directory, "pgbouncer.log"),
    pid: join(directory, "pgbouncer.pid"),
  };
}

/**
 * Roles are looked up in Postgres, each time that somebody logs in. PgBouncer logs in there with
 * the key that the client's proof has shown it, so Postgres still decides, and nobody keeps the
 * password of a role but for the superuser's, who looks up the others.
 */
function configuration(
  { program, directory, compute, poolSize, maxClients }: PgBouncerOptions,
  port: number,
) {
  const { users, log, pid } = filesOf(directory);
  const { host, port: to } = compute.address;
  const lines = [
    "[databases]",
    `* = host=${host} port=${to} auth_user=${ZENITH_SUPERUSER}`,
    "[pgbouncer]",
    `listen_addr = ${HOST}`,
    `listen_port = ${port}`,
    "listen_backlog = 4096",
    "unix_socket_dir =",
    "auth_type = scram-sha-256",
    `auth_file = ${users}`,
    // Nobody's search_path changes what these names mean.
    "auth_query = SELECT usename, passwd FROM pg_catalog.pg_shadow WHERE usename OPERATOR(pg_catalog.=) $1",
    "pool_mode = transaction",
    `default_pool_size = ${poolSize}`,
    `max_client_conn = ${maxClients}`,
    "ignore_startup_parameters = extra_float_digits",
    `server_idle_timeout = ${SERVER_IDLE_S}`,
    // A Postgres that starts afresh after a crash is back within a second or two.
    "server_login_retry = 1",
    ...(preparesStatements(program) ? [`max_prepared_statements = ${PREPARED_STATEMENTS}`] : []),
    "log_connections = 0",
    "log_disconnections = 0",
    "log_stats = 0",
    `logfile = ${log}`,
    `pidfile = ${pid}`,
  ];
  return `${lines.join("\n")}\n`;
}

/** Whether a client's statements by name work in transaction mode. */
export function preparesStatements(program: string): boolean {
  const { stdout } = spawnSync(program, ["--version"], { encoding: "utf8" });
  const [, major = "0", minor = "0"] = /PgBouncer (\d+)\.(\d+)/.exec(stdout ?? "") ?? [];
  return Number(major) > PREPARES_FROM[0]! ||
    Number(major) === PREPARES_FROM[0]! && Number(minor) >= PREPARES_FROM[1]!;
}

/** A port that nobody listens on. */
async function anyPort(): Promise<number> {
  const server = createServer();
  const { port } = await listen(server, { host: HOST, port: 0 }, () => {});
  await new Promise((resolve) => server.close(resolve));
  return port;
}

function endOf(child: ChildProcess): Promise<void> {
  return new Promise((resolve) => {
    child.once("error", () => resolve());
    child.once("exit", () => resolve());
  });
}

function answers({ host, port }: HostPort): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host, port });
    const answer = (isThere: boolean) => {
      socket.destroy();
      resolve(isThere);
    };
    socket.once("connect", () => answer(true));
    socket.once("error", () => answer(false));
  });
}

function lastWords(log: string): string {
  const lines = lastLines(log, 3)?.text.trim().split("\n") ?? [];
  return lines.join("; ") || "it has said nothing";
}
