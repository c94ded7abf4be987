/** PostgreSQL's client programs, run on a compute. */
import { type ChildProcessByStdio, spawn } from "node:child_process";
import type { Readable } from "node:stream";
import { postgresEnvironment } from "../../src/pg_install/initdb.ts";
import { childOutput } from "./child_output.ts";
import type { Compute } from "./zenith_env.ts";
import { clientProgram } from "./postgres_major.ts";

export function spawnProgram(
  pg: Compute,
  name: string,
  args: readonly string[],
): ChildProcessByStdio<null, Readable, Readable> {
  return spawn(clientProgram(name), args, {
    env: { ...postgresEnvironment(), ...pg.libpq },
    stdio: ["ignore", "pipe", "pipe"],
  });
}

/** Runs it to its end; what it printed. @throws {Error} with all its output when it fails */
export async function runProgram(pg: Compute, name: string, args: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await childOutput(spawnProgram(pg, name, args));
  if (code !== 0) throw new Error(`${name} ${args.join(" ")}: exit code ${code}\n${stdout}${stderr}`);
  return stdout;
}

/** Checks every table and B-tree, each table's rows against each of its indexes. @throws {Error} with what is wrong */
export async function amcheck(pg: Compute, databases: readonly string[]): Promise<void> {
  const args = ["--install-missing", "--heapallindexed", "--parent-check"];
  await runProgram(pg, "pg_amcheck", [...args, ...databases.map((name) => `--database=${name}`)]);
}
