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
    process.exitCode = isRemote(argv)
      ? await runRemote(catalog, argv)
      : await runCommand(catalog, argv, askMissing);
  } catch (error) {
    report(error);
    process.exitCode = exitCodeOf(error);
  }
  // A slow reader's pipe may still hold output. On Bun, an empty write does not wait for it.
  process.stdout.end(() => process.stderr.end(() => process.exit()));
}

/** Whether the command is for a server elsewhere, which has its own names to ask for. */
function isRemote(argv: readonly string[]): boolean {
  const end = argv.indexOf("--");
  const own = end < 0 ? argv : argv.slice(0, end);
  return (process.env["ZENITH_REMOTE"] ?? "") !== "" ||
    own.some((word) => word === "--remote" || word.startsWith("--remote="));
}

async function runRemote(catalog: readonly CommandCatalog[], typed: readonly string[]): Promise<number> {
  const { takeTarget } = await import("./remote/target.ts");
  const { remoteCatalog } = await import("./remote/catalog.ts");
  const { target, argv } = takeTarget(typed);
  return await runCommand(remoteCatalog(catalog, target), argv);
}

function report(error: unknown): void {
  process.stderr.write(`zenith: ${errorMessage(error)}\n`);
  if (error instanceof ZenithError) {
    if (error.hint !== undefined) process.stderr.write(`hint: ${error.hint}\n`);
  } else if (error instanceof Error && error.stack !== undefined) {
    process.stderr.write(`${redactPasswords(error.stack)}\n`);
  }
}
