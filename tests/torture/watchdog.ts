/** Notices when nothing comes to its end any more, and tells what everybody was at. */
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

/** Longer than any single step takes on a busy machine. */
const STALL_MS = 180_000;
const LOG_LINES = 15;

export class Watchdog {
  readonly #dir: string;
  readonly #atWork = new Map<string, string>();
  #timer: ReturnType<typeof setTimeout> | undefined;
  readonly #stalled = Promise.withResolvers<never>();

  /** @param dir of the environment: whose processes and logs are shown */
  constructor(dir: string) {
    this.#dir = dir;
    // Nobody may be waiting when it happens.
    this.#stalled.promise.catch(() => undefined);
    this.#rearm();
  }

  /** `who` begins `step` now; what it was at before has come to its end. */
  note(who: string, step: string): void {
    this.#atWork.set(who, step);
    this.#rearm();
  }

  /** What `run` gives. @throws {Error} with the state of everything when nobody has begun a new step for three minutes */
  async guard<T>(run: Promise<T>): Promise<T> {
    try {
      return await Promise.race([run, this.#stalled.promise]);
    } finally {
      clearTimeout(this.#timer);
    }
  }

  #rearm(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#stalled.reject(new Error(this.#describe())), STALL_MS);
  }

  #describe(): string {
    const steps = [...this.#atWork].map(([who, step]) => `${who}: ${step}`);
    return [
      `nothing came to its end for ${STALL_MS / 1000} s`,
      ...steps,
      "",
      ...this.#processes(),
      ...this.#logs(),
    ].join("\n");
  }

  /** Postgres's processes say what they are at; the others are known by their paths. */
  #processes(): string[] {
    const columns = ["pid", "ppid", "stat", "wchan:24", "etimes", "args"].flatMap((name) => ["-o", name]);
    const lines = execFileSync("ps", ["-e", "-ww", ...columns], { encoding: "utf8" }).split("\n");
    return lines.filter((line) => /PID|postgres|pgbench|pg_|zenith/.test(line));
  }

  #logs(): string[] {
    const names = readdirSync(this.#dir, { recursive: true, encoding: "utf8" });
    return names.filter((name) => name.endsWith(".log")).sort().flatMap((name) => {
      const lines = readFileSync(join(this.#dir, name), "utf8").trimEnd().split("\n");
      return ["", `--- ${name}`, ...lines.slice(-LOG_LINES)];
    });
  }
}
