import { errorMessage, ZenithError } from "./src/common/errors.ts";
import { exitCodeOf } from "./src/commands/command.ts";
import { COMMANDS } from "./src/commands/registry.ts";
import { runCommand } from "./src/commands/run.ts";

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
// What was printed may still be on its way into a pipe.
process.stdout.write("", () => process.exit());
