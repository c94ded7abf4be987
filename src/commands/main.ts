/**
 * The main function of the entrypoints: runs one command, prints its error, and exits with its
 * code.
 */
import { errorMessage, systemErrorCode, ZenithError } from "../common/errors.ts";
import { redactPasswords } from "../common/redact.ts";
import { type CommandCatalog, exitCodeOf } from "./cli/command.ts";
import { type AskMissing, runCommand } from "./cli/run.ts";

const askMissing: AskMissing = async (...request) => {
  const missing = await import("./cli/missing.ts");
  return await missing.askMissing(...request);
};

/** Runs the command that `argv` names, then exits. */
export async function main(catalog: readonly CommandCatalog[], argv: readonly string[]): Promise<void> {
  // The reader may exit before everything is printed: `zenith dump wal … | head`.
  process.stdout.on("error", (error: unknown) => {
    if (systemErrorCode(error) === "EPIPE") process.exit();
    throw error;
  });
  try {
    process.exitCode = await runCommand(catalog, argv, askMissing);
  } catch (error) {
    report(error);
    process.exitCode = exitCodeOf(error);
  }
  // A slow reader's pipe may still hold output. On Bun, an empty write does not wait for it.
  process.stdout.end(() => process.stderr.end(() => process.exit()));
}

function report(error: unknown): void {
  process.stderr.write(`zenith: ${errorMessage(error)}\n`);
  if (error instanceof ZenithError) {
    if (error.hint !== undefined) process.stderr.write(`hint: ${error.hint}\n`);
  } else if (error instanceof Error && error.stack !== undefined) {
    process.stderr.write(`${redactPasswords(error.stack)}\n`);
  }
}
