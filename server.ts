/**
 * Entrypoint of a server: runs one role in the foreground, and knows no other command.
 *
 *     bun server.ts pageserver -D /var/lib/zenith
 */
import { main } from "./src/commands/main.ts";
import { ROLES } from "./src/commands/role/roles.ts";

await main(ROLES, process.argv.slice(2));
