/** Runs another program in the foreground: psql, or a command on a throw-away branch. */
import { spawn } from "node:child_process";
import { constants } from "node:os";
import { errorMessage, ZenithError } from "../../common/errors.ts";

type Variables = Readonly<Record<string, string | undefined>>;

/** libpq's variables that would lead a client elsewhere than the others say. */
const MISLEADING = ["PGHOSTADDR", "PGSERVICE", "PGSERVICEFILE"];

/** Our environment with `connection`, for a program that connects to that. */
export function clientEnvironment(connection: Variables): Variables {
  const env: Record<string, string | undefined> = { ...process.env, ...connection };
  for (const name of MISLEADING) delete env[name];
  return env;
}

/** What the terminal sends to a program and to us at once: it is the program's to act on. */
const FOR_THE_PROGRAM: readonly NodeJS.Signals[] = ["SIGINT", "SIGQUIT"];
/** What somebody sends to us alone, and means for the program too. */
const PASSED_ON: readonly NodeJS.Signals[] = ["SIGTERM", "SIGHUP"];

/**
 * Runs it on our terminal until it ends.
 *
 * @returns its exit code; 128 and the signal's number when a signal ended it, as shells have it
 * @throws {ZenithError} `not_found`, `io`
 */
export async function runProgram(
  program: string,
  args: readonly string[],
  env: Variables,
): Promise<number> {
  const ignore = () => {};
  for (const signal of FOR_THE_PROGRAM) process.on(signal, ignore);
  const child = spawn(program, args, { env, stdio: "inherit" });
  const passOn = (signal: NodeJS.Signals) => void child.kill(signal);
  for (const signal of PASSED_ON) process.on(signal, passOn);
  try {
    return await new Promise((resolve, reject) => {
      child.on("error", (error) => {
        const kind = (error as NodeJS.ErrnoException).code === "ENOENT" ? "not_found" : "io";
        reject(new ZenithError(kind, `could not run ${program}: ${errorMessage(error)}`, { cause: error }));
      });
      child.on("close", (code, signal) => resolve(code ?? 128 + constants.signals[signal ?? "SIGTERM"]));
    });
  } finally {
    for (const signal of FOR_THE_PROGRAM) process.off(signal, ignore);
    for (const signal of PASSED_ON) process.off(signal, passOn);
  }
}
