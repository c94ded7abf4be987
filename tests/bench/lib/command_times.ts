/** How long commands take that hardly do anything, against an empty program compiled by Bun. */
import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { zenithCommand } from "../../harness/cli.ts";
import { ZenithEnv } from "../../harness/zenith_env.ts";
import { percentile } from "../harness.ts";
import { command } from "./command.ts";
import type { GoalRow } from "./goal_table.ts";

const ROUNDS = 20;
const NEW_BRANCH = ["branch", "command_times", "main"];
const REMOVAL = ["branch", "delete", "command_times"];

interface Kind {
  readonly what: string;
  readonly goal: string;
  readonly args: readonly string[];
  /** What takes away what it made. */
  readonly after?: readonly string[];
}

const KINDS: readonly Kind[] = [
  { what: "zenith --version", goal: "≤ 30", args: ["--version"] },
  { what: "zenith branch list", goal: "≤ 30", args: ["branch", "list"] },
  { what: "zenith branch <name> main", goal: "≤ 40", args: NEW_BRANCH, after: REMOVAL },
];

function wallMs(file: string, args: readonly string[], repoDir?: string): number {
  const started = performance.now();
  const done = spawnSync(file, args, { env: { ...process.env, ZENITH_REPO_DIR: repoDir }, encoding: "utf8" });
  if (done.status !== 0) throw new Error(`${file} ${args.join(" ")}: ${done.stderr}`);
  return performance.now() - started;
}

/** @param directory for the empty program */
export async function measureCommands(directory: string): Promise<GoalRow[]> {
  const source = join(directory, "empty.ts");
  const empty = join(directory, "empty");
  writeFileSync(source, "");
  command(process.execPath, "build", "--compile", "--bytecode", source, "--outfile", empty);
  await using env = await ZenithEnv.create({ safekeepers: 1 });
  const [file, ...first] = zenithCommand();
  return KINDS.map(({ what, goal, args, after }) => {
    const own: number[] = [];
    const reference: number[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      own.push(wallMs(file!, [...first, ...args], env.repoDir));
      reference.push(wallMs(empty, []));
      if (after !== undefined) wallMs(file!, [...first, ...after], env.repoDir);
    }
    const median = (times: number[]): number => percentile(times.sort((a, b) => a - b), 0.5);
    return {
      what: `${what}, ms`,
      goal,
      figures: new Map([["Zenith", median(own)], ["empty program", median(reference)]]),
    };
  });
}
