/** Runs the command line under test: the built executable when ZENITH_BIN names it, else the sources. */
import { spawn } from "node:child_process";
import { join } from "node:path";
import { type ChildOutput, childOutput } from "./child_output.ts";

const ROOT = join(import.meta.dirname, "..", "..");

export type CliResult = ChildOutput;

export function zenithCommand(): string[] {
  const bin = process.env["ZENITH_BIN"];
  return bin !== undefined && bin !== "" ? [bin] : [process.execPath, join(ROOT, "cli.ts")];
}

/** Runs `zenith <args>`; failing is a result, not an error. */
export async function runZenith(
  args: readonly string[],
  env: Readonly<Record<string, string>>,
): Promise<CliResult> {
  const [file, ...prefix] = zenithCommand();
  const child = spawn(file!, [...prefix, ...args], {
    env: { ...process.env, ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  return await childOutput(child);
}
