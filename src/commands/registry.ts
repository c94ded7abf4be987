import { branchCommand } from "./branch.ts";
import { branchDeleteCommand } from "./branch_delete.ts";
import { branchListCommand } from "./branch_list.ts";
import { branchRenameCommand } from "./branch_rename.ts";
import type { Command } from "./command.ts";
import { computeCommand } from "./compute.ts";
import { dumpWalCommand } from "./dump.ts";
import { dumpPageCommand } from "./dump_page.ts";
import { initCommand } from "./init.ts";
import { lsnAtCommand } from "./lsn_at.ts";
import { pageserverCommand } from "./pageserver.ts";
import { pgCreateCommand, pgListCommand, pgStartCommand, pgStopCommand } from "./pg.ts";
import { restartCommand } from "./restart.ts";
import { safekeeperCommand, safekeeperListCommand } from "./safekeeper.ts";
import { safekeeperPruneCommand } from "./safekeeper_prune.ts";
import { safekeeperReleaseCommand } from "./safekeeper_release.ts";
import { startCommand } from "./start.ts";
import { statusCommand } from "./status.ts";
import { stopCommand } from "./stop.ts";
import { tenantConfigCommand } from "./tenant_config.ts";
import { tenantCreateCommand, tenantDeleteCommand, tenantListCommand } from "./tenant.ts";

/** Every command, in the order in which `zenith --help` shows them. */
export const COMMANDS: readonly Command[] = [
  initCommand,
  startCommand,
  stopCommand,
  restartCommand,
  statusCommand,
  tenantListCommand,
  tenantCreateCommand,
  tenantConfigCommand,
  tenantDeleteCommand,
  branchCommand,
  branchListCommand,
  branchRenameCommand,
  branchDeleteCommand,
  lsnAtCommand,
  pgListCommand,
  pgCreateCommand,
  pgStartCommand,
  pgStopCommand,
  safekeeperListCommand,
  safekeeperPruneCommand,
  safekeeperReleaseCommand,
  pageserverCommand,
  safekeeperCommand,
  dumpWalCommand,
  dumpPageCommand,
  computeCommand,
];
