import { branchCommand } from "./branch.ts";
import { branchDeleteCommand } from "./branch_delete.ts";
import { branchListCommand } from "./branch_list.ts";
import { branchRenameCommand } from "./branch_rename.ts";
import type { CommandGroup } from "./command.ts";
import { completeCommand, completionCommand } from "./completion.ts";
import { computeCommand } from "./compute.ts";
import { doctorCommand } from "./doctor.ts";
import { dumpLayerCommand, dumpWalCommand } from "./dump.ts";
import { dumpPageCommand } from "./dump_page.ts";
import { fsckCommand } from "./fsck.ts";
import { initCommand } from "./init.ts";
import { logsCommand } from "./logs.ts";
import { lsnAtCommand } from "./lsn_at.ts";
import { pageserverCommand } from "./pageserver.ts";
import { pgCreateCommand } from "./pg_create.ts";
import { pgListCommand } from "./pg_list.ts";
import { pgStartCommand } from "./pg_start.ts";
import { pgStopCommand } from "./pg_stop.ts";
import { psqlCommand } from "./psql.ts";
import { restartCommand } from "./restart.ts";
import { safekeeperCommand } from "./safekeeper.ts";
import { safekeeperListCommand } from "./safekeeper_list.ts";
import { safekeeperPruneCommand } from "./safekeeper_prune.ts";
import { safekeeperReleaseCommand } from "./safekeeper_release.ts";
import { startCommand } from "./start.ts";
import { statusCommand } from "./status.ts";
import { stopCommand } from "./stop.ts";
import { tenantConfigCommand } from "./tenant_config.ts";
import { tenantCreateCommand, tenantDeleteCommand, tenantListCommand } from "./tenant.ts";

/** Every command, as `zenith --help` shows them. */
export const COMMANDS: readonly CommandGroup[] = [
  {
    title: "An environment and its servers",
    commands: [
      initCommand,
      startCommand,
      stopCommand,
      restartCommand,
      statusCommand,
      logsCommand,
      safekeeperListCommand,
    ],
  },
  {
    title: "Branches",
    commands: [branchCommand, branchListCommand, branchRenameCommand, branchDeleteCommand, lsnAtCommand],
  },
  {
    title: "Postgres on branches",
    commands: [pgListCommand, pgCreateCommand, pgStartCommand, pgStopCommand, psqlCommand],
  },
  {
    title: "Tenants",
    commands: [tenantListCommand, tenantCreateCommand, tenantConfigCommand, tenantDeleteCommand],
  },
  {
    title: "This machine",
    commands: [doctorCommand, completionCommand],
  },
  {
    title: "Single servers and tools",
    commands: [
      pageserverCommand,
      safekeeperCommand,
      safekeeperPruneCommand,
      safekeeperReleaseCommand,
      fsckCommand,
      dumpWalCommand,
      dumpLayerCommand,
      dumpPageCommand,
      computeCommand,
      completeCommand,
    ],
  },
];
