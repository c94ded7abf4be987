/** Runs stock Postgres as a child process. */
import { type ChildProcess, spawn } from "node:child_process";
import {
  closeSync,
  fchmodSync,
  fstatSync,
  openSync,
  readdirSync,
  readlinkSync,
  readSync,
  realpathSync,
} from "node:fs";
import { basename, join } from "node:path";
import { assert } from "../../common/assert.ts";
import { errorMessage, ioError, systemErrorCode, ZenithError } from "../../common/errors.ts";
import { readForeignFile } from "../../common/foreign_directory.ts";
import type { PostgresLocation } from "../../pg_install/find_postgres.ts";
import { postgresEnvironment } from "../../pg_install/initdb.ts";
import { asUser, type PgUser } from "../../pg_install/pg_user.ts";
import { cutLog } from "../../process/cut_log.ts";
import { findProgram } from "../../process/find_program.ts";
import { inCgroup } from "./cgroup.ts";
import { PostmasterStatus } from "./postmaster_status.ts";
import { type Cover, inNamespace } from "./tablespaces.ts";
import { sleep } from "../../common/sleep.ts";

export interface PostgresProcessOptions {
  readonly install: PostgresLocation;
  readonly pgdata: string;
  readonly user: PgUser | undefined;
  /** Settings for its command line, which override all configuration files. */
  readonly settings?: Readonly<Record<string, string>>;
  /** The directories that it finds in place of tablespaces' locations. */
  readonly covers?: readonly Cover[];
  /** The control group that it is to be in. */
  readonly cgroup?: string | undefined;
  /** The file to which its standard output and error are appended. */
  readonly logFile: string;
}

export const LOG_MODE = 0o600;

/** How often its log's size is checked. Clients determine how fast the log grows. */
const LOG_CHECK_MS = 10_000;

/** The signals that tell a postmaster how to shut down: pmdie() in postmaster.c. */
const FAST_SHUTDOWN: NodeJS.Signals = "SIGINT";
const IMMEDIATE_SHUTDOWN: NodeJS.Signals = "SIGQUIT";

/** The postmaster itself kills children that don't end within 5 s (SIGKILL_CHILDREN_AFTER_SECS). */
const IMMEDIATE_SHUTDOWN_TIMEOUT_MS = 10_000;

/**
 * A process of Postgres has crashed, and the postmaster has ended all others and itself. A stock
 * postmaster would recover from its data directory, but a compute's may have pages that the crash
 * has torn, and no full-page images to repair them.
 */
export class PostgresCrashed extends ZenithError {
  override name = "PostgresCrashed";
}

/** A running postmaster. */
export class PostgresProcess {
  readonly pid: number;
  /**
   * Resolves to an error that says how Postgres ended. It is a {@link PostgresCrashed} when one of
   * the postmaster's children has crashed.
   */
  readonly ended: Promise<ZenithError>;
  readonly #child: ChildProcess;
  readonly #pgdata: string;
  #running = true;

  private constructor(child: ChildProcess, pgdata: string, log: OwnLog) {
    this.#child = child;
    this.#pgdata = pgdata;
    this.pid = child.pid!;
    const logCheck = setInterval(() => keepLogShort(log.file), LOG_CHECK_MS);
    logCheck.unref();
    this.ended = new Promise((resolve) => {
      child.on("exit", (code, signal) => {
        this.#running = false;
        clearInterval(logCheck);
        resolve(describeEnd(code, signal, log));
      });
    });
  }

  /**
   * Starts Postgres. The caller has to find out when it accepts connections.
   *
   * @throws {ZenithError} `io` when the program can't be run
   */
  static async start(options: PostgresProcessOptions): Promise<PostgresProcess> {
    let logFd: number;
    try {
      // The log contains statements with their values, including passwords.
      logFd = openSync(options.logFile, "a", LOG_MODE);
      fchmodSync(logFd, LOG_MODE);
    } catch (error) {
      throw ioError("open log", options.logFile, error);
    }
    try {
      const from = fstatSync(logFd).size;
      const settings = Object.entries(options.settings ?? {}).flatMap((
        [name, value],
      ) => ["-c", `${name}=${value}`]);
      const postgres = join(options.install.binDir, "postgres");
      const command = tiedToParent(postgres, ["-D", options.pgdata, ...settings]);
      const { file, args, user } = inCgroup(
        options.cgroup,
        inNamespace(options.covers ?? [], options.user, command),
      );
      const child = spawn(file, args, {
        ...asUser(user),
        cwd: options.pgdata,
        env: postgresEnvironment(),
        stdio: ["ignore", logFd, logFd],
        // Give it its own process group: Ctrl-C in a terminal is meant for us, and we stop
        // Postgres.
        detached: true,
      });
      await new Promise<void>((resolve, reject) => {
        child.on("spawn", resolve);
        child.on("error", (error) => {
          reject(new ZenithError("io", `could not run ${file}: ${errorMessage(error)}`, { cause: error }));
        });
      });
      return new PostgresProcess(child, realpathSync(options.pgdata), { file: options.logFile, from });
    } finally {
      closeSync(logFd);
    }
  }

  get running(): boolean {
    return this.#running;
  }

  /**
   * Tells Postgres to end its sessions, send its last WAL and exit. That takes until its receivers
   * have all of its WAL, which may be for ever. Resolves when Postgres has ended or `signal` is
   * aborted.
   */
  async shutDown(signal: AbortSignal): Promise<void> {
    if (!this.#running) return;
    this.#child.kill(FAST_SHUTDOWN);
    await new Promise<void>((resolve) => {
      const done = (): void => {
        signal.removeEventListener("abort", done);
        resolve();
      };
      signal.addEventListener("abort", done);
      void this.ended.then(done);
      if (signal.aborted) done();
    });
  }

  /** Ends Postgres at once, by force if necessary, and waits until it is gone. */
  async end(): Promise<void> {
    if (await this.#signalAndWait(IMMEDIATE_SHUTDOWN, IMMEDIATE_SHUTDOWN_TIMEOUT_MS)) return;
    this.#child.kill("SIGKILL");
    await this.ended;
  }

  /**
   * Kills the children of a postmaster that was itself killed. They run on until they notice, and
   * must not outlive their files.
   *
   * @param whenKilled called when all have been signalled; lets children that wait in the kernel
   *   return and die
   */
  async endChildren(whenKilled: () => void): Promise<void> {
    assert(!this.#running, "the postmaster has ended");
    await endProcessesIn(this.#pgdata, whenKilled);
  }

  async #signalAndWait(signal: NodeJS.Signals, timeoutMs: number): Promise<boolean> {
    if (!this.#running) return true;
    this.#child.kill(signal);
    let timer: NodeJS.Timeout | undefined;
    const timeout = new Promise<false>((resolve) => {
      timer = setTimeout(() => resolve(false), timeoutMs);
    });
    const gone = await Promise.race([this.ended.then(() => true as const), timeout]);
    clearTimeout(timer);
    return gone;
  }
}

/**
 * Wraps a command so that Postgres ends when its supervisor does. Otherwise it would run on, and
 * not be connected to its page server again. setpriv(1), of util-linux, makes the kernel signal
 * Postgres when we die, even by SIGKILL.
 */
function tiedToParent(program: string, args: string[]): { file: string; args: string[] } {
  const setpriv = findProgram("setpriv");
  if (setpriv === undefined) return { file: program, args };
  return { file: setpriv, args: ["--pdeathsig", "QUIT", "--", program, ...args] };
}

/**
 * Waits for `ms` while Postgres runs. @throws {ZenithError} how Postgres ended, or why `signal` was
 * aborted
 */
export async function pauseWhileRunning(
  postmaster: PostgresProcess,
  ms: number,
  signal: AbortSignal,
): Promise<void> {
  await sleep(ms, signal);
  signal.throwIfAborted();
  if (!postmaster.running) throw await postmaster.ended;
}

const POLL_MS = 25;

/**
 * Ends a postmaster that an earlier supervisor left in `pgdata`, so that nothing writes there while
 * the directory is replaced.
 *
 * @returns whether there was one
 * @throws {ZenithError} `timeout`
 */
export async function endOrphan(pgdata: string): Promise<boolean> {
  const pid = postmasterPid(pgdata);
  const directory = realpathSync(pgdata);
  if (pid === undefined) return await endProcessesIn(directory);
  const deadline = Date.now() + IMMEDIATE_SHUTDOWN_TIMEOUT_MS;
  for (let signal: NodeJS.Signals = IMMEDIATE_SHUTDOWN; postmasterPid(pgdata) === pid; signal = "SIGKILL") {
    if (signal === IMMEDIATE_SHUTDOWN || Date.now() > deadline) kill(pid, signal);
    if (Date.now() > deadline + IMMEDIATE_SHUTDOWN_TIMEOUT_MS) {
      throw new ZenithError("timeout", `an earlier Postgres, process ${pid}, still runs in ${pgdata}`);
    }
    await sleep(POLL_MS);
  }
  await endProcessesIn(directory);
  return true;
}

/**
 * Kills every process of Postgres whose working directory is `directory`, even if that was removed
 * since. All processes of Postgres work in their data directory.
 *
 * @param directory the real path of a data directory
 * @returns whether there were any
 * @throws {ZenithError} `timeout`
 */
async function endProcessesIn(directory: string, whenKilled: () => void = () => {}): Promise<boolean> {
  const deadline = Date.now() + IMMEDIATE_SHUTDOWN_TIMEOUT_MS;
  for (let found = false;; found = true) {
    const pids = processesIn(directory);
    for (const pid of pids) kill(pid, "SIGKILL");
    whenKilled();
    if (pids.length === 0) return found;
    if (Date.now() > deadline) {
      throw new ZenithError("timeout", `processes ${pids.join(", ")} of Postgres still run in ${directory}`);
    }
    await sleep(POLL_MS);
  }
}

function processesIn(directory: string): number[] {
  // The second is the kernel's name for a removed directory: proc_pid_cwd(5).
  const names = new Set([directory, `${directory} (deleted)`]);
  return readdirSync("/proc").filter((name) => /^\d+$/.test(name)).map(Number).filter((pid) => {
    try {
      return names.has(readlinkSync(`/proc/${pid}/cwd`)) &&
        basename(readlinkSync(`/proc/${pid}/exe`)).startsWith("postgres");
    } catch {
      // The process has ended, or we may not look at it.
      return false;
    }
  });
}

function kill(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if (systemErrorCode(error) !== "ESRCH") throw error;
  }
}

/** `postmaster.pid` has about eight short lines. */
const PID_FILE_MAX_BYTES = 8192;

function readPidFile(pgdata: string): string {
  return new TextDecoder().decode(readForeignFile(join(pgdata, "postmaster.pid"), PID_FILE_MAX_BYTES));
}

/**
 * Returns the process that `postmaster.pid` names, if its working directory is this very directory,
 * as a postmaster's is.
 */
export function postmasterPid(pgdata: string): number | undefined {
  try {
    const pid = Number.parseInt(readPidFile(pgdata), 10);
    return readlinkSync(`/proc/${pid}/cwd`) === realpathSync(pgdata) ? pid : undefined;
  } catch {
    return undefined;
  }
}

/**
 * Postgres has nothing to recover in a fresh data directory, so it is up within a second, or never.
 */
const STARTUP_TIMEOUT_MS = 60_000;
const STARTUP_POLL_MS = 3;

/**
 * Waits until Postgres accepts clients.
 *
 * @throws {ZenithError} `timeout`; how Postgres ended, or why `signal` was aborted
 */
export async function untilAccepting(
  postmaster: PostgresProcess,
  pgdata: string,
  signal: AbortSignal,
): Promise<void> {
  const deadline = Date.now() + STARTUP_TIMEOUT_MS;
  using status = new PostmasterStatus(pgdata);
  // Don't try to connect meanwhile: each attempt would cost Postgres a process, only to be refused.
  while (!status.isReady(postmaster.pid)) {
    if (Date.now() > deadline) throw new ZenithError("timeout", "Postgres accepts no connections");
    await pauseWhileRunning(postmaster, STARTUP_POLL_MS, signal);
  }
}

/** Shortens a log that is too long. If it can't be shortened now, it is shortened later. */
function keepLogShort(file: string): void {
  try {
    cutLog(file);
  } catch {
    // The disk may be full, for example.
  }
}

const LOG_TAIL_BYTES = 16 << 10;

/** One postmaster's part of the log. */
interface OwnLog {
  readonly file: string;
  /** Where the part begins. Earlier postmasters wrote what is before. */
  readonly from: number;
}

/**
 * ExitPostmaster(1): the postmaster's exit code after a child has crashed while
 * `restart_after_crash` is off.
 */
const CRASH_EXIT_CODE = 1;

function describeEnd(code: number | null, signal: NodeJS.Signals | null, log: OwnLog): ZenithError {
  // A killed postmaster logs nothing itself. The log's last lines are its children's complaints
  // about its death.
  if (signal !== null) return new ZenithError("unavailable", `Postgres was ended by ${signal}`);
  if (code === 0) return new ZenithError("unavailable", "Postgres ended with exit code 0");
  const words = lastWords(logTail(log));
  const text = `Postgres ended with exit code ${code}${words === undefined ? "" : `: ${words.text}`}`;
  const options = words?.hint === undefined ? {} : { hint: words.hint };
  return code === CRASH_EXIT_CODE
    ? new PostgresCrashed("unavailable", text, options)
    : new ZenithError("unavailable", text, options);
}

/** Why Postgres ended, according to its log. */
export interface LastWords {
  readonly text: string;
  /** PostgreSQL's own hint. */
  readonly hint?: string;
}

/**
 * Finds the lines of a log that say why Postgres ended: the message about the child that crashed
 * first, or the last fatal error.
 */
export function lastWords(lines: readonly string[]): LastWords | undefined {
  const crash = lastCrash(lines);
  const fatal = lastFatal(lines);
  // The startup process logs why it ends. The postmaster only logs that it did.
  if (crash !== undefined && !(crash.startsWith("startup process") && fatal !== undefined)) {
    return { text: crash };
  }
  return fatal;
}

/**
 * Returns the postmaster's message about the child that crashed first (LogChildExit() in
 * postmaster.c). There is none about the others, because the postmaster ends them itself.
 */
function lastCrash(lines: readonly string[]): string | undefined {
  const line = lines.findLast((line) => /LOG: .*\(PID \d+\) (?:was terminated|exited with) /.test(line));
  return line?.replace(/^.*?LOG: */, "");
}

function logTail({ file, from }: OwnLog): string[] {
  try {
    return readTail(file, from, LOG_TAIL_BYTES).split("\n");
  } catch {
    return [];
  }
}

/** Returns the last fatal error. */
function lastFatal(lines: readonly string[]): LastWords | undefined {
  const last = lines.findLastIndex((line) => /(?:FATAL|PANIC):|^postgres: /.test(line));
  if (last < 0) return undefined;
  const words = [lines[last]];
  // If a configuration file is wrong, an earlier line says what is wrong with it.
  const reason = lines.slice(0, last).findLast((line) => line.includes("LOG:"));
  if (reason !== undefined && words[0].endsWith("contains errors")) words.unshift(reason);
  const message = words.map((line) => line.replace(/^.*?(?:(?:FATAL|PANIC)|LOG): */, "")).join("; ");
  const detail = attached(lines, last, "DETAIL");
  const hint = attached(lines, last, "HINT");
  return {
    text: detail === undefined ? message : `${message} (${detail})`,
    ...(hint === undefined ? {} : { hint }),
  };
}

/**
 * Returns a part of the message that begins in line `at`. The lines of a message follow it, and
 * continue after a tab.
 */
function attached(lines: readonly string[], at: number, part: "DETAIL" | "HINT"): string | undefined {
  for (let i = at + 1; i < lines.length; i++) {
    if (!/^\t|(?:DETAIL|HINT|CONTEXT|STATEMENT|LOCATION|QUERY|BACKTRACE): /.test(lines[i])) return undefined;
    const [, text] = lines[i].split(`${part}:  `);
    if (text === undefined) continue;
    let end = i + 1;
    while (lines[end]?.startsWith("\t")) end++;
    return [text, ...lines.slice(i + 1, end).map((line) => line.trim())].join(" ");
  }
  return undefined;
}

/**
 * Reads the end of a file from `from` on, at most `maxBytes`, because a log may be larger than
 * memory.
 */
function readTail(file: string, from: number, maxBytes: number): string {
  const fd = openSync(file, "r");
  try {
    const bytes = new Uint8Array(maxBytes);
    const { size } = fstatSync(fd);
    // If the file is shorter than `from`, it has been truncated since.
    const length = readSync(fd, bytes, 0, maxBytes, Math.max(from > size ? 0 : from, size - maxBytes));
    return new TextDecoder().decode(bytes.subarray(0, length));
  } finally {
    closeSync(fd);
  }
}
