/** The list of the commands that run a server. */
import type { CommandGroup } from "../cli/command.ts";
import { computeCommand } from "./compute.ts";
import { pageserverCommand } from "./pageserver.ts";
import { safekeeperCommand } from "./safekeeper.ts";

/** The servers that run on their own: what `server.ts` can start. */
export const ROLES: readonly CommandGroup[] = [
  { title: "Servers", commands: [pageserverCommand, safekeeperCommand, computeCommand] },
];
