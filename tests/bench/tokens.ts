/**
 * What it costs, in time and in CPU time, that servers ask who their clients are: an environment with tokens, one that `--insecure`
 * made, and one whose servers listen elsewhere than on loopback, by TLS, in turns. `npm run bench -- tokens [rounds]`
 */
import { readFileSync, writeFileSync } from "node:fs";
import { networkInterfaces } from "node:os";
import { join } from "node:path";
import { INVALID_LSN } from "../../src/common/lsn.ts";
import { PgClient } from "../../src/pgwire/client.ts";
import { checkPidFile } from "../../src/process/pid_file.ts";
import { runProgram } from "../harness/programs.ts";
import { type Compute, ZenithEnv } from "../harness/zenith_env.ts";
import { summarize, useExecutable } from "./harness.ts";
import { cpuMs } from "./lib/cpu_time.ts";
import { PageStream } from "./lib/page_stream.ts";
import { makePagesTable, type PagesTable } from "./lib/pages_table.ts";
import { roundTrips } from "./lib/round_trips.ts";

const PAGES = 200;
const REQUESTS = 4_000;
const COMMIT_S = 1;
const CLIENTS = [1, 4];
const DEPTHS = [1, 16];
/** Short ones, so that what else the machine does meets all alike. */
const ROUNDS = 25;

class Subject {
  readonly name: string;
  readonly env: ZenithEnv;
  readonly compute: Compute;
  readonly figures = new Map<string, number[]>();
  readonly cpu = new Map<string, { readonly ms: number; readonly times: number }>();
  readonly #table: PagesTable;

  private constructor(name: string, env: ZenithEnv, compute: Compute, table: PagesTable) {
    this.name = name;
    this.env = env;
    this.compute = compute;
    this.#table = table;
  }

  static async create(name: string, options: Parameters<typeof ZenithEnv.create>[0]): Promise<Subject> {
    const env = await ZenithEnv.create({ safekeepers: 1, ...options });
    const compute = await env.startCompute("main");
    await compute.query("CREATE TABLE log (n int)");
    return new Subject(name, env, compute, await makePagesTable(env, env.defaultTenant, compute, PAGES));
  }

  /** CPU time of the processes that serve pages and commits, in ms. */
  #cpuMs(): number {
    const { env, compute } = this;
    const supervisor = checkPidFile(compute.paths.pidFile);
    if (supervisor.state !== "running") throw new Error("the compute does not run");
    const pids = [env.pageserver.pid, env.safekeepers[0]!.pid, supervisor.process.pid];
    return pids.reduce((sum, pid) => sum + cpuMs(pid), 0);
  }

  /** Does something so many times. Its CPU time counts over all rounds, for a clock tick is 10 ms. */
  async #counted(what: string, work: () => Promise<number>): Promise<void> {
    const before = this.#cpuMs();
    const times = await work();
    const spent = this.cpu.get(what) ?? { ms: 0, times: 0 };
    this.cpu.set(what, { ms: spent.ms + this.#cpuMs() - before, times: spent.times + times });
  }

  note(figure: string, value: number): void {
    this.figures.set(figure, [...this.figures.get(figure) ?? [], value]);
  }

  async commits(clients: number): Promise<void> {
    const script = join(this.env.dir, "commit.sql");
    writeFileSync(script, "INSERT INTO log VALUES (1);\n");
    const args = ["-n", "-T", String(COMMIT_S), "-c", String(clients), "-j", "1", "-f", script, "postgres"];
    await this.#counted(`a commit, ${clients} clients`, async () => {
      const output = await runProgram(this.compute, "pgbench", args);
      this.note(`commits, ${clients} clients, 1/s`, Number(/tps = ([\d.]+)/.exec(output)![1]));
      return Number(/actually processed: (\d+)/.exec(output)![1]);
    });
  }

  async pages(depth: number): Promise<void> {
    const { host, port } = this.env.pageserver.address;
    const tls = host === "127.0.0.1"
      ? {}
      : { tls: { ca: readFileSync(this.env.paths.auth.caCertificate, "utf8"), host } };
    const password = this.name === "insecure" ? {} : { password: this.env.token };
    const connect = () => PgClient.connect({ host, port, user: "bench", ...password, ...tls });
    await using stream = await PageStream.open({ connect }, this.#table);
    const pages = stream.reader(this.#table.relation, PAGES, INVALID_LSN);
    await this.#counted(`a page, ${depth} in flight`, async () => {
      const { p50Us, p99Us } = await stream.orFail(roundTrips(pages, REQUESTS, depth));
      this.note(`getpage, ${depth} in flight, p50, µs`, p50Us);
      this.note(`getpage, ${depth} in flight, p99, µs`, p99Us);
      return REQUESTS;
    });
  }

  async start(): Promise<void> {
    await this.compute.stop();
    const began = performance.now();
    await this.compute.start();
    this.note("pg start, ms", performance.now() - began);
  }
}

/**
 * Compares figures of the same rounds.
 *
 * @returns the geometric mean of their ratios, and how much of it may be chance: the half of its 95% interval
 */
function ratioOf(values: readonly number[], reference: readonly number[]): { ratio: number; chance: number } {
  const logs = values.map((value, round) => Math.log(value / reference[round]!));
  const mean = logs.reduce((sum, log) => sum + log, 0) / logs.length;
  const variance = logs.reduce((sum, log) => sum + (log - mean) ** 2, 0) / (logs.length - 1);
  const ratio = Math.exp(mean);
  return { ratio, chance: ratio * 1.96 * Math.sqrt(variance / logs.length) };
}

export async function run(args: readonly string[]): Promise<void> {
  useExecutable();
  const rounds = Number(args[0] ?? ROUNDS);
  const host = Object.values(networkInterfaces()).flat()
    .find((address) => address?.family === "IPv4" && !address.internal)?.address;
  const subjects: Subject[] = [];
  try {
    subjects.push(
      await Subject.create("tokens", {}),
      await Subject.create("insecure", { init: ["--insecure"] }),
    );
    if (host !== undefined) subjects.push(await Subject.create("tls", { host }));
    // One kind at a time: a Postgres that was just started, or a second of commits, goes on in the servers for a while.
    const kinds: ((subject: Subject) => Promise<void>)[] = [
      ...DEPTHS.map((depth) => (subject: Subject) => subject.pages(depth)),
      ...CLIENTS.map((clients) => (subject: Subject) => subject.commits(clients)),
      (subject) => subject.start(),
    ];
    for (const subject of subjects) {
      for (const measure of kinds) await measure(subject);
      subject.figures.clear();
      subject.cpu.clear();
    }
    for (const measure of kinds) {
      for (let round = 0; round < rounds; round++) {
        // Each goes first as often as the others, and after each of them.
        const order = subjects.map((_, i) => subjects[(round + i) % subjects.length]!);
        for (const subject of round % 2 === 0 ? order : order.reverse()) await measure(subject);
      }
    }
    const [, reference] = subjects;
    const table = subjects.flatMap(({ name, figures }) =>
      [...figures].map(([figure, values]) => {
        const { median, min, max } = summarize(values);
        return { figure, name, median, min, max, ...ratioOf(values, reference!.figures.get(figure)!) };
      })
    ).sort((a, b) => a.figure < b.figure ? -1 : 1);
    console.table(table);
    const cpu = subjects.flatMap((subject) =>
      [...subject.cpu].map(([of, { ms, times }]) => {
        const { ms: least, times: count } = reference!.cpu.get(of)!;
        return {
          "CPU time of": of,
          name: subject.name,
          "µs": ms * 1e3 / times,
          ratio: ms / times * count / least,
        };
      })
    ).sort((a, b) => a["CPU time of"] < b["CPU time of"] ? -1 : 1);
    console.table(cpu);
    console.log(JSON.stringify({ bench: "tokens", rounds, table, cpu }));
  } finally {
    for (const { env } of subjects) await env[Symbol.asyncDispose]();
  }
}
