/** The list of all commands. */
import { branchCommand } from "./branch/branch.ts";
import { branchDefaultCommand } from "./branch/default.ts";
import { branchDeleteCommand } from "./branch/delete.ts";
import { branchDiffCommand } from "./branch/diff.ts";
import { dumpCommand } from "./branch/dump.ts";
import { branchHistoryCommand } from "./branch/history.ts";
import { branchListCommand } from "./branch/list.ts";
import { branchRenameCommand } from "./branch/rename.ts";
import { branchResetCommand, branchRestoreCommand } from "./branch/restore.ts";
import {
  branchGetCommand,
  branchProtectCommand,
  branchSetExpiryCommand,
  branchUnprotectCommand,
} from "./branch/settings.ts";
import type { CommandGroup } from "./cli/command.ts";
import { completeCommandOf, completionCommand } from "./cli/completion.ts";
import { computeCommand } from "./role/compute.ts";
import { doctorCommand } from "./environment/doctor.ts";
import { dumpLayerCommand, dumpWalCommand } from "./dump/dump.ts";
import { dumpPageCommand } from "./dump/page.ts";
import { fsckCommand } from "./environment/fsck.ts";
import { initCommand } from "./environment/init.ts";
import { logsCommand } from "./environment/logs.ts";
import { lsnAtCommand } from "./branch/lsn_at.ts";
import { pageserverCommand } from "./role/pageserver.ts";
import { pgConfigCommand } from "./pg/config.ts";
import { pgCreateCommand } from "./pg/create.ts";
import { pgListCommand } from "./pg/list.ts";
import { pgStartCommand } from "./pg/start.ts";
import { pgStopCommand } from "./pg/stop.ts";
import { runCommand } from "./branch/run.ts";
import { sqlCommand } from "./pg/sql.ts";
import { upCommand } from "./pg/up.ts";
import { uriCommand } from "./pg/uri.ts";
import { psqlCommand } from "./pg/psql.ts";
import { restartCommand } from "./environment/restart.ts";
import { safekeeperCommand } from "./role/safekeeper.ts";
import { safekeeperListCommand } from "./safekeeper/list.ts";
import { safekeeperPruneCommand } from "./safekeeper/prune.ts";
import { safekeeperReleaseCommand } from "./safekeeper/release.ts";
import { safekeeperRepairTermCommand } from "./safekeeper/repair_term.ts";
import { startCommand } from "./environment/start.ts";
import { statusCommand } from "./environment/status.ts";
import { stopCommand } from "./environment/stop.ts";
import { tenantConfigCommand } from "./tenant/config.ts";
import { tenantCreateCommand, tenantDeleteCommand, tenantListCommand } from "./tenant/tenant.ts";

/** Every command, in the order of `zenith --help`. */
export const COMMANDS: readonly CommandGroup[] = [
  {
    title: "An environment and its servers",
    commands: [
      upCommand,
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
    commands: [
      branchCommand,
      branchListCommand,
      branchGetCommand,
      branchDefaultCommand,
      branchHistoryCommand,
      branchDiffCommand,
      branchResetCommand,
      branchRestoreCommand,
      branchRenameCommand,
      branchSetExpiryCommand,
      branchProtectCommand,
      branchUnprotectCommand,
      branchDeleteCommand,
      lsnAtCommand,
      runCommand,
      dumpCommand,
    ],
  },
  {
    title: "Postgres on branches",
    commands: [
      pgListCommand,
      pgCreateCommand,
      pgConfigCommand,
      pgStartCommand,
      pgStopCommand,
      uriCommand,
      psqlCommand,
      sqlCommand,
    ],
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
      safekeeperRepairTermCommand,
      fsckCommand,
      dumpWalCommand,
      dumpLayerCommand,
      dumpPageCommand,
      computeCommand,
      completeCommandOf(() => COMMANDS),
    ],
  },
];
