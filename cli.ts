/** Entrypoint of `zenith`: runs the command that the arguments name. */
import { main } from "./src/commands/main.ts";
import { COMMANDS } from "./src/commands/registry.ts";

await main(COMMANDS, process.argv.slice(2));
