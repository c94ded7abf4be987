/** A terminal that a command runs on, typed at and read as a person does: a pseudo-terminal of script(1), which Debian always has. */
import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { stripVTControlCharacters } from "node:util";
import { zenithCommand } from "./cli.ts";
import { until } from "./zenith_env.ts";

/** Keys as a terminal sends them. */
export const ENTER = "\r";
export const DOWN = "\x1b[B";
/** The terminal makes a SIGINT of it, unless the program reads keys itself. */
export const CTRL_C = "\x03";

function quoted(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`;
}

export class Terminal implements Disposable {
  readonly #child: ChildProcessWithoutNullStreams;
  #output = "";
  #seen = 0;
  readonly #code: Promise<number | null>;

  /** Runs `zenith <args>` on a new terminal of 80 columns. */
  constructor(args: readonly string[], env: Readonly<Record<string, string>>, { columns = 80 } = {}) {
    const command = [...zenithCommand(), ...args].map(quoted).join(" ");
    const sized = `stty rows 24 cols ${columns}; exec ${command}`;
    this.#child = spawn("script", ["--quiet", "--return", "--command", sized, "/dev/null"], {
      env: { ...process.env, ...env, SHELL: "/bin/sh" },
    });
    this.#child.stdout.setEncoding("utf8").on("data", (text: string) => {
      this.#output += text;
    });
    this.#code = new Promise((resolve, reject) => {
      this.#child.on("error", reject);
      this.#child.on("close", resolve);
    });
  }

  /** All that it has shown, without colours and movements. */
  get shown(): string {
    return stripVTControlCharacters(this.#output).replaceAll("\r", "");
  }

  /** Waits for what matches, in what it shows after the last match. */
  async see(wanted: RegExp): Promise<void> {
    await until(`${wanted} is on the terminal`, () => {
      const match = wanted.exec(this.shown.slice(this.#seen));
      if (match === null) return false;
      this.#seen += match.index + match[0].length;
      return true;
    });
  }

  type(keys: string): void {
    this.#child.stdin.write(keys);
  }

  /** Waits until the command ends. @returns its exit code */
  async ended(): Promise<number | null> {
    return await this.#code;
  }

  [Symbol.dispose](): void {
    this.#child.kill("SIGKILL");
  }
}
