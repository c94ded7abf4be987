/**
 * README's tour as it stands there, by the executable alone in an empty directory. What differs from one run to the next is put in the
 * place of README's: ports, LSNs, a moment in time.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, test } from "node:test";
import { zenithCommand } from "../harness/cli.ts";
import { freePort } from "../harness/ports.ts";
import { clientProgram } from "../harness/postgres_major.ts";

const README = readFileSync(join(import.meta.dirname, "..", "..", "README.md"), "utf8");

/** A command line, or a statement typed into psql, and what README shows as its output. */
interface Step {
  readonly input: string;
  readonly sql: boolean;
  readonly output: string[];
}

function tour(): Step[] {
  const section = README.slice(README.indexOf("## A tour"), README.indexOf("## How it works"));
  const steps: Step[] = [];
  for (const [, block] of section.matchAll(/```console\n(.*?)```/gs)) {
    for (const line of block!.trimEnd().split("\n")) {
      const typed = /^(\$|postgres=#) (.*)$/.exec(line);
      if (typed !== null) steps.push({ input: typed[2], sql: typed[1] !== "$", output: [] });
      else steps.at(-1)!.output.push(line);
    }
  }
  return steps;
}

/** What is another each time, by what it is. */
function normalized(text: string): string {
  return text
    .replace(/\b[0-9a-f]{32}\b/g, "<id>")
    .replace(/\b[0-9A-F]+\/[0-9A-F]+\b/g, "<lsn>")
    .replace(/127\.0\.0\.1:\d+/g, "127.0.0.1:<port>")
    .replace(/process \d+/g, "process <pid>")
    .replace(/created \S+\/\.zenith/g, "created <dir>/.zenith")
    .replace(/PostgreSQL 1\d\.\d+ from \S+/g, "PostgreSQL <found>")
    .replace(/\d+ B\b/g, "<bytes>")
    .replace(/[ \t]+/g, " ")
    .trim();
}

function addresses(text: string): string[] {
  return text.match(/127\.0\.0\.1:\d+/g) ?? [];
}

class Traveller {
  readonly #dir: string;
  /** README's words, and what they are this time. */
  readonly #places = new Map<string, string>();
  #url = "";

  constructor(dir: string) {
    this.#dir = dir;
    mkdirSync(join(dir, "bin"));
    const [file, ...args] = zenithCommand();
    if (args.length === 0) {
      writeFileSync(join(dir, "bin", "zenith"), readFileSync(file!));
    } else {
      writeFileSync(join(dir, "bin", "zenith"), `#!/bin/sh\nexec "${file}" "${args[0]}" "$@"\n`);
    }
    chmodSync(join(dir, "bin", "zenith"), 0o755);
    mkdirSync(join(dir, "demo"));
  }

  put(words: string, now: string): void {
    this.#places.set(words, now);
  }

  /** Does what the step says. @returns what it printed */
  go({ input, sql }: Step): string {
    if (sql) return this.#run(`psql "${this.#url}" -At -c "${input.replace(/ *--.*/, "")}"`);
    const command = input.replace(
      new RegExp([...this.#places.keys()].join("|"), "g"),
      (words) => this.#places.get(words)!,
    );
    // A psql that is left open for the statements that follow.
    const session = /^psql "([^"]+)"$/.exec(command);
    if (session !== null) {
      this.#url = session[1];
      return "";
    }
    return this.#run(command);
  }

  #run(command: string): string {
    const path = `${join(this.#dir, "bin")}:${dirname(clientProgram("psql"))}:${process.env["PATH"]}`;
    const { status, stdout, stderr } = spawnSync("sh", ["-c", command], {
      cwd: join(this.#dir, "demo"),
      encoding: "utf8",
      env: { PATH: path, HOME: this.#dir },
    });
    assert.equal(status, 0, `${command}: exit code ${status}\n${stdout}${stderr}`);
    return stdout;
  }

  end(): void {
    if (existsSync(join(this.#dir, "demo", ".zenith"))) this.#run("zenith stop -m immediate");
  }
}

const dir = mkdtempSync(join(tmpdir(), "zenith-tour-"));
chmodSync(dir, 0o755);
const traveller = new Traveller(dir);

after(() => {
  try {
    traveller.end();
  } finally {
    rmSync(dir, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
  }
});

test("README's tour goes as README shows it", async () => {
  const steps = tour();
  assert.ok(steps.length >= 15, "README has a tour");
  traveller.put("zenith init", `zenith init --listen 127.0.0.1:${await freePort()}`);
  for (const step of steps) {
    const printed = traveller.go(step);
    const lines = printed.split("\n").map(normalized);
    for (const line of step.output) {
      assert.ok(
        lines.includes(normalized(line)),
        `${step.input}: README shows "${line}", not in\n${printed}`,
      );
    }
    const shown = addresses(step.output.join("\n"));
    for (const [i, address] of addresses(printed).entries()) {
      if (shown[i] !== undefined) traveller.put(shown[i], address);
    }
    if (step.input.includes("pg_current_wal_insert_lsn")) {
      traveller.put(step.output[0].trim(), printed.trim());
      // A commit of README's reader comes later than that.
      traveller.put("2026-11-22 10:15:00", new Date().toISOString());
    }
  }
});
