import { formatDuration, parseDuration } from "../../common/duration.ts";
import { ZenithError } from "../../common/errors.ts";
import { formatHostPort, parseHostPort } from "../../common/host_port.ts";
import { parseBranchName, parseTenantId, parseTimelineId } from "../../common/id.ts";
import { formatLsn, parseLsn } from "../../common/lsn.ts";
import { parseTimestamp } from "../../common/timestamp.ts";
import type { Column } from "../../pgwire/column.ts";
import { ignoredStatementTag } from "../../pgwire/ignored_statement.ts";
import type { ConnectionHandler, Session } from "../../pgwire/session.ts";
import { basebackup } from "./basebackup.ts";
import { parseStartPoint } from "../tenant/branch_files.ts";
import type { GarbageReport } from "../timeline/garbage.ts";
import { lsnAt } from "../tenant/lsn_at.ts";
import type { PageServer } from "./page_server.ts";
import { servePagestream } from "./pagestream_service.ts";
import type { BranchInfo } from "../tenant/branches.ts";
import type { Timeline } from "../timeline/timeline.ts";

interface Command {
  /** How it is written, for error messages. */
  readonly usage: string;
  /** Smallest and largest number of arguments. */
  readonly args: readonly [number, number];
  /** null: it answers with a COPY, or a tag alone. */
  readonly columns: readonly Column[] | null;
  run(service: PageService, session: Session, args: readonly string[]): Promise<void>;
}

const JSON_COLUMN: readonly Column[] = [{ name: "result", type: "json" }];

/** The figures of a garbage collection, each a column. */
const GC_FIGURES: readonly (readonly [string, (report: GarbageReport) => number])[] = [
  ["layers_total", (report) => report.layersTotal],
  ["layers_needed_by_cutoff", (report) => report.layersNeededByCutoff],
  ["layers_needed_by_pitr", (report) => report.layersNeededByPitr],
  ["layers_needed_by_branches", (report) => report.layersNeededByBranches],
  ["layers_needed_by_leases", (report) => report.layersNeededByLeases],
  ["layers_removed", (report) => report.layersRemoved],
  ["layers_created", (report) => report.layersCreated],
  ["versions_removed", (report) => report.versionsRemoved],
  ["images_created", (report) => report.imagesCreated],
  ["bytes_removed", (report) => report.bytesRemoved],
  ["elapsed_ms", (report) => report.elapsedMs],
];

const GC_COLUMNS: readonly Column[] = GC_FIGURES.map(([name]) => ({ name, type: "int8" }));

/** How long a lease lasts when nobody says; who needs it longer takes it again. */
const DEFAULT_LEASE_MS = 10 * 60 * 1000;

const COMMANDS: Readonly<Record<string, Command>> = {
  status: {
    usage: "status",
    args: [0, 0],
    columns: JSON_COLUMN,
    run: async (service, session) => sendJson(session, await service.server.status()),
  },
  tenant_list: {
    usage: "tenant_list",
    args: [0, 0],
    columns: JSON_COLUMN,
    run: async (service, session) => sendJson(session, service.server.tenants()),
  },
  tenant_create: {
    usage: "tenant_create <tenant>",
    args: [1, 1],
    columns: null,
    run: async (service, session, [tenant]) => {
      await service.server.createTenant(parseTenantId(tenant!));
      session.sendCommandComplete("TENANT_CREATE");
    },
  },
  tenant_delete: {
    usage: "tenant_delete <tenant>",
    args: [1, 1],
    columns: null,
    run: async (service, session, [tenant]) => {
      await service.server.deleteTenant(parseTenantId(tenant!));
      session.sendCommandComplete("TENANT_DELETE");
    },
  },
  branch_list: {
    usage: "branch_list <tenant>",
    args: [1, 1],
    columns: JSON_COLUMN,
    run: async (service, session, [tenant]) => {
      const branches = await service.server.tenant(parseTenantId(tenant!)).branches.list();
      sendJson(session, branches.map(branchJson));
    },
  },
  branch_create: {
    usage: "branch_create <tenant> <name> <branch or timeline>[@<LSN or timestamp>] [expires=<duration>]",
    args: [3, 4],
    columns: JSON_COLUMN,
    run: async (service, session, [tenant, name, start, expires]) => {
      const lifetimeMs = expires === undefined ? null : parseDuration(namedValue("expires", expires));
      const { branches } = service.server.tenant(parseTenantId(tenant!));
      const expiresMs = lifetimeMs === null ? null : Date.now() + lifetimeMs;
      const branch = await branches.create(parseBranchName(name!), parseStartPoint(start!), expiresMs);
      sendJson(session, branchJson(branch));
    },
  },
  branch_rename: {
    usage: "branch_rename <tenant> <name> <new name>",
    args: [3, 3],
    columns: JSON_COLUMN,
    run: async (service, session, [tenant, from, to]) => {
      const { branches } = service.server.tenant(parseTenantId(tenant!));
      sendJson(session, branchJson(await branches.rename(parseBranchName(from!), parseBranchName(to!))));
    },
  },
  branch_delete: {
    usage: "branch_delete <tenant> <name> [cascade]",
    args: [2, 3],
    columns: JSON_COLUMN,
    run: async (service, session, [tenant, name, cascade]) => {
      if (cascade !== undefined && cascade !== "cascade") {
        throw new ZenithError("invalid_argument", `branch_delete: "${cascade}" is not "cascade"`);
      }
      const owner = parseTenantId(tenant!);
      const deleted = await service.server.deleteBranch(owner, parseBranchName(name!), cascade !== undefined);
      sendJson(session, deleted.map((branch) => branch.name));
    },
  },
  lsn_at: {
    usage: "lsn_at <tenant> <timeline> <timestamp>",
    args: [3, Infinity],
    columns: JSON_COLUMN,
    run: async (service, session, [tenant, timeline, ...timestamp]) => {
      const wanted = parseTimestamp(timestamp.join(" "), "none");
      const owner = service.server.tenant(parseTenantId(tenant!));
      const found = await lsnAt(owner.timelines, await service.timeline(tenant!, timeline!), wanted);
      sendJson(session, { lsn: formatLsn(found.lsn), timeline_id: found.timeline.timelineId });
    },
  },
  pagestream: {
    usage: "pagestream <tenant> <timeline>",
    args: [2, 2],
    columns: null,
    run: async (service, session, [tenant, timeline]) => {
      const served = await service.timeline(tenant!, timeline!);
      await servePagestream(session, served, service.server.config.wait_lsn_timeout_ms);
    },
  },
  basebackup: {
    usage: "basebackup <tenant> <timeline> [LSN] [lazy]",
    args: [2, 4],
    columns: null,
    run: async (service, session, [tenant, timeline, ...rest]) => {
      const source = await service.timeline(tenant!, timeline!);
      const content = rest.at(-1) === "lazy" ? "lazy" : "complete";
      const [lsn, surplus] = content === "lazy" ? rest.slice(0, -1) : rest;
      if (surplus !== undefined) {
        throw new ZenithError("invalid_argument", `basebackup: "${surplus}" is not "lazy"`);
      }
      const wanted = lsn === undefined ? null : parseLsn(lsn);
      if (wanted !== null) await source.waitFor(wanted, service.server.config.wait_lsn_timeout_ms);
      const boundary = source.boundary(wanted);
      // Whoever starts from it goes on reading at that LSN for a while.
      source.leases.take(boundary.lsn, DEFAULT_LEASE_MS, Date.now());
      // A compute that starts here writes on from here: what is before must not be lost any more.
      await source.makeDurable();
      await session.copyOut(basebackup(source, boundary, content));
    },
  },
  callmemaybe: {
    usage: "callmemaybe <tenant> <timeline> <connection string>",
    args: [3, Infinity],
    columns: null,
    run: async (service, session, [tenant, timeline, ...connInfo]) => {
      service.server.receiveFrom(await service.timeline(tenant!, timeline!), connInfo.join(" "));
      session.sendCommandComplete("CALLMEMAYBE");
    },
  },
  compute_attach: {
    usage: "compute_attach <tenant> <timeline>",
    args: [2, 2],
    columns: null,
    run: async (service, session, [tenant, timeline]) => {
      const detach = service.server.attach(await service.timeline(tenant!, timeline!));
      try {
        await session.copyBoth().run({ onData() {} });
      } finally {
        detach();
      }
    },
  },
  timeline_status: {
    usage: "timeline_status <tenant> <timeline>",
    args: [2, 2],
    columns: JSON_COLUMN,
    run: async (service, session, [tenant, timeline]) => {
      const source = await service.timeline(tenant!, timeline!);
      // Who asks may let WAL go on from here: what is before must not be lost any more.
      await source.makeDurable();
      sendJson(session, {
        system_id: String(source.systemIdentifier),
        wal_segment_size: source.walSegmentSize,
        wal_position: formatLsn(source.position),
        safekeepers: source.safekeepers.list.map(formatHostPort),
      });
    },
  },
  timeline_safekeepers: {
    usage: "timeline_safekeepers <tenant> <timeline> <host:port,...|none>",
    args: [3, 3],
    columns: null,
    run: async (service, session, [tenant, timeline, list]) => {
      const source = await service.timeline(tenant!, timeline!);
      if (list === "none" && service.server.isAttached(source.timelineId)) {
        throw new ZenithError("conflict", `a compute runs on timeline ${source.timelineId}`);
      }
      source.safekeepers.set(list === "none" ? [] : list!.split(",").map(parseHostPort));
      session.sendCommandComplete("TIMELINE_SAFEKEEPERS");
    },
  },
  do_gc: {
    usage: "do_gc <tenant> <timeline> <horizon>",
    args: [2, 3],
    columns: GC_COLUMNS,
    run: async (service, session, [tenant, timeline, horizon]) => {
      const owner = service.server.tenant(parseTenantId(tenant!));
      const source = await service.timeline(tenant!, timeline!);
      const horizonBytes = horizon === undefined ? undefined : parseCount("horizon", horizon);
      // Only what is in layers can be given up.
      await source.store.flush();
      const report = await owner.collectGarbage(source, horizonBytes);
      session.sendRows(GC_COLUMNS, [GC_FIGURES.map(([, figure]) => figure(report))]);
    },
  },
  lease_lsn: {
    usage: "lease_lsn <tenant> <timeline> <LSN> [duration]",
    args: [3, 4],
    columns: JSON_COLUMN,
    run: async (service, session, [tenant, timeline, lsn, duration]) => {
      const source = await service.timeline(tenant!, timeline!);
      const durationMs = duration === undefined ? DEFAULT_LEASE_MS : parseDuration(duration);
      const boundary = source.boundary(parseLsn(lsn!));
      const end = source.leases.take(boundary.lsn, durationMs, Date.now());
      sendJson(session, { lsn: formatLsn(boundary.lsn), expires_at: new Date(end).toISOString() });
    },
  },
  tenant_config: {
    usage: "tenant_config <tenant> [gc_horizon_bytes=<bytes>] [pitr_interval=<duration>]",
    args: [1, 3],
    columns: JSON_COLUMN,
    run: async (service, session, [tenant, ...settings]) => {
      const owner = service.server.tenant(parseTenantId(tenant!));
      const config = { ...owner.config() };
      for (const setting of settings) {
        if (setting.startsWith("pitr_interval=")) {
          config.pitr_interval_s = Math.ceil(parseDuration(namedValue("pitr_interval", setting)) / 1000);
        } else {
          const name = "gc_horizon_bytes";
          config.gc_horizon_bytes = parseCount(name, namedValue(name, setting));
        }
      }
      if (settings.length > 0) owner.setConfig(config);
      sendJson(session, {
        gc_horizon_bytes: config.gc_horizon_bytes,
        pitr_interval: formatDuration(config.pitr_interval_s * 1000),
      });
    },
  },
};

/** The page server's commands over the wire. */
export class PageService implements ConnectionHandler {
  readonly server: PageServer;

  constructor(server: PageServer) {
    this.server = server;
  }

  describe(_session: Session, sql: string): readonly Column[] | null {
    return ignoredStatementTag(sql) === undefined ? parseCommand(sql).command.columns : null;
  }

  async query(session: Session, sql: string, params: readonly (string | null)[]): Promise<void> {
    const ignored = ignoredStatementTag(sql);
    if (ignored !== undefined) {
      session.sendCommandComplete(ignored);
      return;
    }
    const { command, args } = parseCommand(sql);
    if (params.length > 0) {
      throw new ZenithError(
        "invalid_argument",
        "page server commands take no parameters: write the values out",
      );
    }
    await command.run(this, session, args);
  }

  /** @throws {ZenithError} `not_found` when the tenant, or its timeline, does not exist */
  timeline(tenant: string, timeline: string): Promise<Timeline> {
    return this.server.tenant(parseTenantId(tenant)).timelines.get(parseTimelineId(timeline));
  }
}

/** @throws {ZenithError} `invalid_argument` */
function parseCommand(sql: string): { command: Command; args: readonly string[] } {
  const text = sql.trim().replace(/;\s*$/, "");
  const [name = "", ...args] = text.split(/\s+/);
  const command = Object.hasOwn(COMMANDS, name.toLowerCase()) ? COMMANDS[name.toLowerCase()] : undefined;
  if (command === undefined) {
    throw new ZenithError("invalid_argument", `unknown command "${text.slice(0, 100)}"`, {
      hint: `the page server knows ${Object.keys(COMMANDS).join(", ")}`,
    });
  }
  const [fewest, most] = command.args;
  if (args.length < fewest || args.length > most) {
    throw new ZenithError(
      "invalid_argument",
      `${name} has ${args.length} arguments: expected ${command.usage}`,
    );
  }
  return { command, args };
}

/** @throws {ZenithError} `invalid_argument` unless it is a number of things or bytes */
function parseCount(name: string, text: string): number {
  if (!/^\d{1,15}$/.test(text)) {
    throw new ZenithError("invalid_argument", `${name} is "${text}": expected a number of bytes`);
  }
  return Number(text);
}

/** What `name=value` says. @throws {ZenithError} `invalid_argument` when it is another name's */
function namedValue(name: string, text: string): string {
  if (!text.startsWith(`${name}=`)) {
    throw new ZenithError("invalid_argument", `"${text}" is not ${name}=<value>`);
  }
  return text.slice(name.length + 1);
}

function sendJson(session: Session, value: unknown): void {
  session.sendRows(JSON_COLUMN, [[JSON.stringify(value)]]);
}

/** A branch as it goes over the wire. */
function branchJson(branch: BranchInfo): Record<string, string | number | null> {
  return {
    name: branch.name,
    timeline_id: branch.timelineId,
    latest_valid_lsn: formatLsn(branch.latestValidLsn),
    ancestor_id: branch.ancestorId,
    ancestor_lsn: branch.ancestorLsn === null ? null : formatLsn(branch.ancestorLsn),
    expires_at: branch.expiresMs === null ? null : new Date(branch.expiresMs).toISOString(),
    logical_size_bytes: branch.sizes?.logical ?? null,
    physical_size_bytes: branch.sizes?.physical ?? null,
  };
}
