/** The list of all commands. */
import { type CommandCatalog, loadCommands } from "./cli/command.ts";

/** Every command, in the order of `zenith --help`. A command loads only its own code. */
export const COMMANDS: readonly CommandCatalog[] = [
  {
    title: "An environment and its servers",
    commands: {
      up: async () => (await import("./pg/up.ts")).upCommand,
      init: async () => (await import("./environment/init.ts")).initCommand,
      start: async () => (await import("./environment/start.ts")).startCommand,
      stop: async () => (await import("./environment/stop.ts")).stopCommand,
      restart: async () => (await import("./environment/restart.ts")).restartCommand,
      serve: async () => (await import("./environment/serve.ts")).serveCommand,
      status: async () => (await import("./environment/status.ts")).statusCommand,
      logs: async () => (await import("./environment/logs.ts")).logsCommand,
      "object-store set": async () => (await import("./environment/object_store.ts")).objectStoreSetCommand,
      "object-store rotate-key": async () =>
        (await import("./environment/object_store.ts")).objectStoreRotateKeyCommand,
      "safekeeper list": async () => (await import("./safekeeper/list.ts")).safekeeperListCommand,
    },
  },
  {
    title: "Branches",
    commands: {
      branch: async () => (await import("./branch/branch.ts")).branchCommand,
      "branch create": async () => (await import("./branch/branch.ts")).branchCreateCommand,
      "branch list": async () => (await import("./branch/list.ts")).branchListCommand,
      "branch get": async () => (await import("./branch/settings.ts")).branchGetCommand,
      "branch default": async () => (await import("./branch/default.ts")).branchDefaultCommand,
      "branch history": async () => (await import("./branch/history.ts")).branchHistoryCommand,
      "branch diff": async () => (await import("./branch/diff.ts")).branchDiffCommand,
      "branch reset": async () => (await import("./branch/restore.ts")).branchResetCommand,
      "branch restore": async () => (await import("./branch/restore.ts")).branchRestoreCommand,
      "branch rename": async () => (await import("./branch/rename.ts")).branchRenameCommand,
      "branch set-expiry": async () => (await import("./branch/settings.ts")).branchSetExpiryCommand,
      "branch protect": async () => (await import("./branch/settings.ts")).branchProtectCommand,
      "branch unprotect": async () => (await import("./branch/settings.ts")).branchUnprotectCommand,
      "branch mask": async () => (await import("./branch/mask.ts")).branchMaskCommand,
      "branch require-mask": async () => (await import("./branch/mask.ts")).branchRequireMaskCommand,
      "branch delete": async () => (await import("./branch/delete.ts")).branchDeleteCommand,
      "lsn-at": async () => (await import("./branch/lsn_at.ts")).lsnAtCommand,
      run: async () => (await import("./branch/run.ts")).runCommand,
      dump: async () => (await import("./branch/dump.ts")).dumpCommand,
      export: async () => (await import("./branch/export.ts")).exportCommand,
    },
  },
  {
    title: "Postgres on branches",
    commands: {
      "pg list": async () => (await import("./pg/list.ts")).pgListCommand,
      "pg create": async () => (await import("./pg/create.ts")).pgCreateCommand,
      "pg config": async () => (await import("./pg/config.ts")).pgConfigCommand,
      "pg start": async () => (await import("./pg/start.ts")).pgStartCommand,
      "pg stop": async () => (await import("./pg/stop.ts")).pgStopCommand,
      "pg standby": async () => (await import("./pg/standby.ts")).pgStandbyCommand,
      "standby list": async () => (await import("./pg/standby_slots.ts")).standbyListCommand,
      "standby drop": async () => (await import("./pg/standby_slots.ts")).standbyDropCommand,
      uri: async () => (await import("./pg/uri.ts")).uriCommand,
      psql: async () => (await import("./pg/psql.ts")).psqlCommand,
      sql: async () => (await import("./pg/sql.ts")).sqlCommand,
    },
  },
  {
    title: "Tenants",
    commands: {
      "tenant list": async () => (await import("./tenant/tenant.ts")).tenantListCommand,
      "tenant create": async () => (await import("./tenant/tenant.ts")).tenantCreateCommand,
      follow: async () => (await import("./tenant/follow.ts")).followCommand,
      "follow list": async () => (await import("./tenant/follow.ts")).followListCommand,
      "follow stop": async () => (await import("./tenant/follow.ts")).followStopCommand,
      "follow resume": async () => (await import("./tenant/follow.ts")).followResumeCommand,
      "follow remove": async () => (await import("./tenant/follow.ts")).followRemoveCommand,
      import: async () => (await import("./tenant/import.ts")).importCommand,
      "tenant config": async () => (await import("./tenant/config.ts")).tenantConfigCommand,
      "tenant limits": async () => (await import("./tenant/limits.ts")).tenantLimitsCommand,
      "tenant attach": async () => (await import("./tenant/attach.ts")).tenantAttachCommand,
      "tenant detach": async () => (await import("./tenant/attach.ts")).tenantDetachCommand,
      "tenant delete": async () => (await import("./tenant/tenant.ts")).tenantDeleteCommand,
    },
  },
  {
    title: "Who may do what",
    commands: {
      "token create": async () => (await import("./token/token.ts")).tokenCreateCommand,
      "token list": async () => (await import("./token/token.ts")).tokenListCommand,
      "token revoke": async () => (await import("./token/token.ts")).tokenRevokeCommand,
      "token rotate": async () => (await import("./token/token.ts")).tokenRotateCommand,
    },
  },
  {
    title: "This machine",
    commands: {
      doctor: async () => (await import("./environment/doctor.ts")).doctorCommand,
      completion: async () => (await import("./cli/completion.ts")).completionCommand,
    },
  },
  {
    title: "Single servers and tools",
    commands: {
      pageserver: async () => (await import("./role/pageserver.ts")).pageserverCommand,
      safekeeper: async () => (await import("./role/safekeeper.ts")).safekeeperCommand,
      "safekeeper prune": async () => (await import("./safekeeper/prune.ts")).safekeeperPruneCommand,
      "safekeeper release": async () => (await import("./safekeeper/release.ts")).safekeeperReleaseCommand,
      "safekeeper repair-term": async () =>
        (await import("./safekeeper/repair_term.ts")).safekeeperRepairTermCommand,
      fsck: async () => (await import("./environment/fsck.ts")).fsckCommand,
      "dump wal": async () => (await import("./dump/dump.ts")).dumpWalCommand,
      "dump layer": async () => (await import("./dump/dump.ts")).dumpLayerCommand,
      "dump page": async () => (await import("./dump/page.ts")).dumpPageCommand,
      compute: async () => (await import("./role/compute.ts")).computeCommand,
      complete: async () =>
        (await import("./cli/completion.ts")).completeCommandOf(() => loadCommands(COMMANDS)),
    },
  },
];
