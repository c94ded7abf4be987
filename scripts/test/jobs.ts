/** Runs test commands, several side by side, and says at the end which failed and which took long. */
import { type ChildProcess, spawn } from "node:child_process";

export interface Counts {
  passed: number;
  failed: number;
}

/** What a job needs alone that uses the ports that Zenith chooses for whoever names none. */
export const DEFAULT_PORTS = "the default ports";

/** One command that tests something. */
export interface Job {
  readonly name: string;
  readonly command: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** What it needs to have for itself: of the jobs that name the same, one runs at a time. */
  readonly needsAlone?: string;
  /** It computes all the time. Beside it runs what mostly waits, as long as there is any. */
  readonly computes?: boolean;
  /** What has not ended after so long does not end at all; a few times what it takes on two cores. */
  readonly minutes: number;
  /** Reads the counts, and the names of what failed, from what the runner printed. */
  readonly read: (output: string) => Report | undefined;
}

export interface Report extends Counts {
  readonly failures: readonly string[];
  /** What was printed before each failure, where the runner's output has it in one place. */
  readonly excerpts?: readonly string[];
}

export interface Result extends Report {
  readonly job: Job;
  readonly seconds: number;
  /** As in a report; else what a job that has failed printed last. */
  readonly excerpts: readonly string[];
}

/** Enough for a message, what it compares, and where it was thrown. */
const EXCERPT_LINES = 40;

export function lastLines(text: string): string {
  return text.trimEnd().split("\n").slice(-EXCERPT_LINES).join("\n");
}

/** For a command to end what it has started; it is killed then. */
const GRACE_MS = 20_000;

/** The ports of tests, {@link ../../tests/harness/ports.ts}: each lane has its own part of them. */
const TEST_PORTS = { first: 20_000, count: 10_000 };
/** Those that Zenith chooses for a Postgres by itself; what needs its defaults for itself gets them. */
const CHOSEN_PORTS = { first: 30_000, count: 2700 };

/** Tells a command to end when its time is up. @returns to be called when it has ended */
function limitTime(child: ChildProcess, limitMs: number, onLimit: () => void): () => void {
  let grace: ReturnType<typeof setTimeout> | undefined;
  const limit = setTimeout(() => {
    onLimit();
    child.kill("SIGTERM");
    grace = setTimeout(() => {
      child.kill("SIGKILL");
      // What it has started may go on holding the other ends.
      child.stdout?.destroy();
      child.stderr?.destroy();
    }, GRACE_MS);
  }, limitMs);
  return () => {
    clearTimeout(limit);
    clearTimeout(grace);
  };
}

export interface Surroundings {
  readonly cwd: string;
  readonly env: NodeJS.ProcessEnv;
  /** Milliseconds of Unix time when everything has to have ended. */
  readonly deadlineMs: number;
}

async function runJob(
  job: Job,
  surroundings: Surroundings,
  ports: Readonly<Record<string, string>>,
  print: (text: string) => void,
): Promise<Result> {
  const startedMs = Date.now();
  const [command, ...args] = job.command;
  const child = spawn(command, args, {
    cwd: surroundings.cwd,
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...surroundings.env, ...ports, ...job.env },
  });
  let output = "";
  const collect = (text: string) => {
    print(text);
    output += text;
  };
  child.stdout.setEncoding("utf8").on("data", collect);
  child.stderr.setEncoding("utf8").on("data", collect);
  const limitMs = Math.max(0, Math.min(job.minutes * 60_000, surroundings.deadlineMs - Date.now()));
  let late = false;
  const ended = limitTime(child, limitMs, () => {
    late = true;
    print(`\n=== ${job.name} has not ended after ${Math.round(limitMs / 1000)} s: it is ended\n`);
  });
  const [status, signal] = await new Promise<[number | null, NodeJS.Signals | null]>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (...how) => resolve(how));
  });
  ended();
  // What prints no counts is one thing that passes or fails.
  const read: Report = job.read(output) ?? { passed: status === 0 ? 1 : 0, failed: 0, failures: [] };
  // A runner that breaks down without having counted a failure has failed all the same.
  const brokeDown = status !== 0 && read.failed === 0;
  const failed = brokeDown ? 1 : read.failed;
  return {
    job,
    seconds: (Date.now() - startedMs) / 1000,
    excerpts: failed > 0 ? read.excerpts ?? [lastLines(output)] : [],
    passed: read.passed,
    failed,
    failures: late
      ? [...read.failures, "has not ended"]
      : brokeDown
      ? [signal === null ? `ended with exit code ${status}` : `was ended by ${signal}`]
      : read.failures,
  };
}

/** So many that compute run at once when nothing else is left. */
const CORES = 2;

/** Jobs in their order, but for those that have to wait for another to end. */
class JobQueue {
  readonly #waiting: Job[];
  readonly #taken = new Set<string>();
  #computing = 0;
  #idle: (() => void)[] = [];

  constructor(jobs: readonly Job[]) {
    this.#waiting = [...jobs];
  }

  /** The next job that can run now, waiting for it if need be; undefined when there is none left. */
  async next(): Promise<Job | undefined> {
    while (this.#waiting.length > 0) {
      const at = this.#find(1) ?? this.#find(CORES);
      if (at !== undefined) {
        const [job] = this.#waiting.splice(at, 1);
        if (job.needsAlone !== undefined) this.#taken.add(job.needsAlone);
        if (job.computes === true) this.#computing++;
        return job;
      }
      await new Promise<void>((resolve) => this.#idle.push(resolve));
    }
    return undefined;
  }

  /** @param mostComputing how many may compute then */
  #find(mostComputing: number): number | undefined {
    const at = this.#waiting.findIndex(({ needsAlone, computes }) =>
      (needsAlone === undefined || !this.#taken.has(needsAlone)) &&
      (computes !== true || this.#computing < mostComputing)
    );
    return at < 0 ? undefined : at;
  }

  ended({ needsAlone, computes }: Job): void {
    if (needsAlone !== undefined) this.#taken.delete(needsAlone);
    if (computes === true) this.#computing--;
    const idle = this.#idle;
    this.#idle = [];
    for (const wake of idle) wake();
  }
}

function portsOf(job: Job, index: number, lanes: number): Record<string, string> {
  const part = ({ first, count }: typeof TEST_PORTS): string => {
    const share = Math.floor(count / lanes);
    return `${first + index * share}-${first + (index + 1) * share - 1}`;
  };
  return {
    ZENITH_TEST_PORTS: part(TEST_PORTS),
    ...(job.needsAlone === DEFAULT_PORTS ? {} : { ZENITH_PG_PORTS: part(CHOSEN_PORTS) }),
  };
}

/**
 * Runs jobs, so many at once. One that runs alone prints as it goes; of several, each prints when it has ended.
 */
export async function runJobs(
  jobs: readonly Job[],
  sideBySide: number,
  surroundings: Surroundings,
): Promise<Result[]> {
  const results: Result[] = [];
  const queue = new JobQueue(jobs);
  const lane = async (index: number, lanes: number) => {
    for (let job = await queue.next(); job !== undefined; job = await queue.next()) {
      let text = "";
      const print = lanes === 1
        ? (chunk: string) => void process.stdout.write(chunk)
        : (chunk: string) => void (text += chunk);
      if (lanes === 1) console.log(`\n=== ${job.name}`);
      const result = await runJob(job, surroundings, portsOf(job, index, lanes), print);
      if (lanes > 1) console.log(`\n=== ${job.name}\n${text.trimEnd()}`);
      console.log(
        `=== ${job.name}: ${result.passed} passed, ${result.failed} failed, ${result.seconds.toFixed(0)} s`,
      );
      results.push(result);
      queue.ended(job);
    }
  };
  const lanes = Math.min(sideBySide, jobs.length);
  await Promise.all(Array.from({ length: lanes }, (_, index) => lane(index, lanes)));
  return results;
}
