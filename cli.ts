import { errorMessage, systemErrorCode, ZenithError } from "./src/common/errors.ts";
import { exitCodeOf } from "./src/commands/command.ts";
import { COMMANDS } from "./src/commands/registry.ts";
import { runCommand } from "./src/commands/run.ts";

// Whoever reads what we print may have had enough of it: `zenith dump wal … | head`.
process.stdout.on("error", (error: unknown) => {
  if (systemErrorCode(error) === "EPIPE") process.exit();
  throw error;
});

try {
  process.exitCode = await runCommand(COMMANDS, process.argv.slice(2));
} catch (error) {
  process.stderr.write(`zenith: ${errorMessage(error)}\n`);
  if (error instanceof ZenithError) {
    if (error.hint !== undefined) process.stderr.write(`hint: ${error.hint}\n`);
  } else if (error instanceof Error && error.stack !== undefined) {
    process.stderr.write(`${error.stack}\n`);
  }
  process.exitCode = exitCodeOf(error);
}
// What was printed may still be on its way into a pipe whose reader takes its time. An empty write does not wait for that on Bun.
process.stdout.end(() => process.stderr.end(() => process.exit()));
