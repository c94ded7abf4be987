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

/** The sources on Deno. */
export function zenithOnDeno(): string[] {
  return [join(ROOT, "node_modules/.bin/deno"), "run", "--allow-all", "--no-check", join(ROOT, "cli.ts")];
}

/** How the command line is run, where it is not {@link zenithCommand} by the test's own user. */
export interface CliOptions {
  readonly command?: readonly string[];
  readonly user?: { readonly uid: number; readonly gid: number };
}

/** Runs `zenith <args>`; failing is a result, not an error. */
export async function runZenith(
  args: readonly string[],
  env: Readonly<Record<string, string>>,
  { command = zenithCommand(), user }: CliOptions = {},
): Promise<CliResult> {
  const [file, ...prefix] = command;
  const child = spawn(file!, [...prefix, ...args], {
    ...(user === undefined ? {} : { uid: user.uid, gid: user.gid }),
    env: { ...process.env, ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  return await childOutput(child);
}
