/** The list of the commands that run a server. */
import type { CommandCatalog } from "../cli/command.ts";

/** The roles that `server.ts` can run. */
export const ROLES: readonly CommandCatalog[] = [
  {
    title: "Servers",
    commands: {
      pageserver: async () => (await import("./pageserver.ts")).pageserverCommand,
      safekeeper: async () => (await import("./safekeeper.ts")).safekeeperCommand,
      compute: async () => (await import("./compute.ts")).computeCommand,
    },
  },
];
