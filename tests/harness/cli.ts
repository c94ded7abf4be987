/** Runs the command line under test: the built executable when ZENITH_BIN names it, else the sources. */
import { spawn } from "node:child_process";
import { join } from "node:path";

const ROOT = join(import.meta.dirname, "..", "..");

export interface CliResult {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

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
  let stdout = "";
  let stderr = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    stdout += text;
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    stderr += text;
  });
  const code = await new Promise<number | null>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", resolve);
  });
  return { code, stdout, stderr };
}
