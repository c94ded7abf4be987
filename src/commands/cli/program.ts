/** Runs another program in the foreground: psql, or a command on a throw-away branch. */
import { spawn } from "node:child_process";
import { constants } from "node:os";
import { errorMessage, ZenithError } from "../../common/errors.ts";
import type { Variables } from "../../pg_install/client_environment.ts";

/**
 * The terminal sends these to the program and to this process at once. The program decides what to
 * do.
 */
const FOR_THE_PROGRAM: readonly NodeJS.Signals[] = ["SIGINT", "SIGQUIT"];
/** These are sent to this process alone, but are meant for the program too. */
const PASSED_ON: readonly NodeJS.Signals[] = ["SIGTERM", "SIGHUP"];

/**
 * Runs a program on this process's terminal until it ends.
 *
 * @returns its exit code, or 128 plus the signal's number when a signal ended it, as in shells
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
