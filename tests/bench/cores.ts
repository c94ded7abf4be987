/**
 * What more cores bring, by simulation: page servers as one process or as several, each with some of the tenants, and
 * the CPU time that each kind of work was measured to take on two cores. `npm run bench -- cores [cores …]`
 *
 * Threads share the cores evenly. A page server has one thread that answers and takes WAL in, and one that writes
 * layers out; each client of a tenant asks for its next page when it has read the one before, on the same machine
 * ("here") or on others ("elsewhere"), whose cores are not counted.
 */
import { Random } from "../harness/random.ts";

/** µs of CPU time; docs/decisions/0039 says where each comes from. */
const COST = {
  /** The page server's, for a page out of its cache, of 16 in flight. */
  page: 11,
  /** The supervisor's and Postgres's, for a page that a lazy compute reads for the first time. */
  client: 45,
  /** For 128 KiB of WAL of TPC-B: the thread that takes it in, and the one that writes it out. */
  take: 330,
  write: 240,
} as const;

const TENANTS = 64;
const CLIENTS = 4;
/** Per tenant, of the time in which it asks for pages. */
const WAL_PIECES_PER_S = 16;
const SIMULATED_US = 2_000_000;
const SEED = 1;

interface Work {
  readonly us: number;
  readonly done: () => void;
}

/** Threads that run one piece of work after the other, on cores that they share evenly. */
class Machine {
  nowUs = 0;
  readonly #cores: number;
  /** The work that a thread which always ran would have done by now, in µs. */
  #progress = 0;
  /** What runs, by the progress at which it ends. */
  readonly #running = new Heap<Work>();
  readonly #timers = new Heap<() => void>();

  constructor(cores: number) {
    this.#cores = cores;
  }

  thread(): { run(us: number, done: () => void): void } {
    const queue: Work[] = [];
    let busy = false;
    const next = (): void => {
      const work = queue.shift();
      busy = work !== undefined;
      if (work === undefined) return;
      this.#running.push(this.#progress + work.us, {
        us: work.us,
        done: () => {
          next();
          work.done();
        },
      });
    };
    return {
      run(us, done) {
        queue.push({ us, done });
        if (!busy) next();
      },
    };
  }

  after(us: number, done: () => void): void {
    this.#timers.push(this.nowUs + us, done);
  }

  runUntil(endUs: number): void {
    while (this.nowUs < endUs) {
      const running = this.#running.size;
      const speed = running === 0 ? 0 : Math.min(1, this.#cores / running);
      const workUs = running === 0 ? Infinity : (this.#running.first - this.#progress) / speed;
      const timerUs = this.#timers.size === 0 ? Infinity : this.#timers.first - this.nowUs;
      const us = Math.max(0, Math.min(workUs, timerUs));
      this.nowUs += us;
      this.#progress += us * speed;
      if (workUs <= timerUs) this.#running.pop().done();
      else this.#timers.pop()();
    }
  }
}

class Heap<T> {
  readonly #items: { readonly at: number; readonly value: T }[] = [];

  get size(): number {
    return this.#items.length;
  }

  get first(): number {
    return this.#items[0]!.at;
  }

  push(at: number, value: T): void {
    const items = this.#items;
    let i = items.length;
    items.push({ at, value });
    for (let up = (i - 1) >> 1; i > 0 && items[up]!.at > at; up = (i - 1) >> 1) {
      items[i] = items[up]!;
      items[up] = { at, value };
      i = up;
    }
  }

  pop(): T {
    const items = this.#items;
    const { value } = items[0]!;
    const last = items.pop()!;
    if (items.length === 0) return value;
    let i = 0;
    for (;;) {
      let down = 2 * i + 1;
      if (down + 1 < items.length && items[down + 1]!.at < items[down]!.at) down++;
      if (down >= items.length || items[down]!.at >= last.at) break;
      items[i] = items[down]!;
      i = down;
    }
    items[i] = last;
    return value;
  }
}

interface Outcome {
  readonly pagesPerS: number;
  readonly p50Us: number;
  readonly p99Us: number;
}

function simulate(cores: number, processes: number, clientsHere: boolean): Outcome {
  const machine = new Machine(cores);
  const random = new Random(SEED);
  const servers = Array.from(
    { length: processes },
    () => ({ answers: machine.thread(), writes: machine.thread() }),
  );
  const timesUs: number[] = [];
  for (let tenant = 0; tenant < TENANTS; tenant++) {
    const { answers, writes } = servers[tenant % processes]!;
    const takeWal = (): void => {
      answers.run(COST.take, () => writes.run(COST.write, () => {}));
      machine.after(-Math.log(1 - random.int(1e6) / 1e6) * 1e6 / WAL_PIECES_PER_S, takeWal);
    };
    machine.after(random.int(1e6) / 1e6 * 1e6 / WAL_PIECES_PER_S, takeWal);
    for (let i = 0; i < CLIENTS; i++) {
      const client = machine.thread();
      const ask = (): void => {
        const asked = machine.nowUs;
        answers.run(COST.page, () => {
          timesUs.push(machine.nowUs - asked);
          if (clientsHere) client.run(COST.client, ask);
          else machine.after(COST.client, ask);
        });
      };
      machine.after(random.int(1e6) / 1e6 * COST.client, ask);
    }
  }
  machine.runUntil(SIMULATED_US);
  timesUs.sort((a, b) => a - b);
  const at = (share: number) => Math.round(timesUs[Math.floor(timesUs.length * share)]!);
  return { pagesPerS: Math.round(timesUs.length * 1e6 / SIMULATED_US), p50Us: at(0.5), p99Us: at(0.99) };
}

export function run(args: readonly string[]): Promise<void> {
  const rows = [];
  for (const cores of args.length > 0 ? args.map(Number) : [2, 4, 16, 64]) {
    for (const processes of [1, 2, 4, 8, 16].filter((count) => count <= cores)) {
      for (const clients of ["here", "elsewhere"] as const) {
        rows.push({ cores, processes, clients, ...simulate(cores, processes, clients === "here") });
      }
    }
  }
  console.table(rows);
  console.log(JSON.stringify({ bench: "cores", rows }));
  return Promise.resolve();
}
