/** The list of the commands that run a server. */
import type { CommandGroup } from "../cli/command.ts";
import { computeCommand } from "./compute.ts";
import { pageserverCommand } from "./pageserver.ts";
import { safekeeperCommand } from "./safekeeper.ts";

/** The roles that `server.ts` can run. */
export const ROLES: readonly CommandGroup[] = [
  { title: "Servers", commands: [pageserverCommand, safekeeperCommand, computeCommand] },
];
