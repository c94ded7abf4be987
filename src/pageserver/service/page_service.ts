/** Implements the page server's commands, as the management contract defines them. */
import { formatDuration } from "../../common/duration.ts";
import { errorMessage, ZenithError } from "../../common/errors.ts";
import { formatHostPort } from "../../common/host_port.ts";
import type { Hold } from "../../common/held.ts";
import type { TenantId, TimelineId } from "../../common/id.ts";
import { formatLsn, lsn as toLsn } from "../../common/lsn.ts";
import { formatTimestamp, msOfTimestamp } from "../../common/timestamp.ts";
import { unlessAborted } from "../../common/unless_aborted.ts";
import { type Key, whenPresent } from "../../pagestore/mod.ts";
import type { ConnectionHandler, Session } from "../../pgwire/session.ts";
import type { Scope } from "../../auth/claims.ts";
import type { Guard } from "../../protocol/guard.ts";
import { decodeSettings } from "../../protocol/branch_settings.ts";
import { decodeSlots } from "../../protocol/branch_slots.ts";
import { EXPORT_APPLICATION, PAGE_SERVER } from "../../protocol/management.ts";
import { scrubStatusJson } from "../../protocol/scrub_status.ts";
import { type Handlers, OperationService } from "../../protocol/operation_service.ts";
import { parseStartPoint } from "../tenant/branch_files.ts";
import type { BranchInfo, MaskFlags } from "../tenant/branches.ts";
import { changedBlocks } from "../tenant/changed_blocks.ts";
import { listLayers, pageVersions } from "../tenant/layer_list.ts";
import { historyOf } from "../tenant/history.ts";
import { inheritedSettings } from "../tenant/inherited_settings.ts";
import { lsnAt } from "../tenant/lsn_at.ts";
import { readSegmentBefore, segmentsBefore, WalHead } from "../tenant/wal_head.ts";
import { newestTli } from "../../postgres/wal/wal_timelines.ts";
import type { Timeline } from "../timeline/timeline.ts";
import { AttachedCompute } from "./attached_compute.ts";
import { BackupService } from "./backup_service.ts";
import { basebackup } from "./basebackup.ts";
import { switchOf } from "./timeline_switch.ts";
import { followedJson, startFollowing } from "./follow_service.ts";
import { importedJson, mountBackup, receiveImport } from "./import_service.ts";
import { isForMasked } from "./masked_access.ts";
import type { PageServer } from "./page_server.ts";
import { type ReadWal, servePagestream } from "./pagestream_service.ts";
import { estimateOf } from "./transfers.ts";
import { Turns } from "./turns.ts";

/** How long a lease lasts by default. A holder that needs it longer takes it again. */
const DEFAULT_LEASE_MS = 10 * 60 * 1000;

/** The page server's commands over the wire. */
export function pageService(server: PageServer, guard: Guard): ConnectionHandler {
  const { limits } = server;
  const turns = new Turns<TenantId>();
  const operations = new OperationService(
    "the page server",
    guard,
    limits,
    PAGE_SERVER,
    uploaded(server, handlers(server, guard, turns)),
    ["BASE_BACKUP", "START_REPLICATION", "IDENTIFY_SYSTEM"],
    (operation, args) => isForMasked(server, operation, args),
  );
  return new BackupService(server, guard, turns, operations);
}

/**
 * Where page servers share tenants, whoever takes a tenant over has to know each change that was
 * acknowledged. So the answer waits for the upload.
 */
function uploaded(server: PageServer, all: Handlers<typeof PAGE_SERVER>): Handlers<typeof PAGE_SERVER> {
  const changing = Object.entries(PAGE_SERVER).filter(([, { changes, args }]) => changes && "tenant" in args);
  type Handle = (args: { tenant: TenantId }, session: Session) => unknown;
  return {
    ...all,
    ...Object.fromEntries(changing.map(([key]) => {
      const handle = all[key as keyof typeof PAGE_SERVER] as unknown as Handle;
      const andUpload: Handle = async (args, session) => {
        const answer = await handle(args, session);
        await server.untilUploaded(args.tenant);
        return answer;
      };
      return [key, andUpload];
    })),
  };
}

/** The scopes of those who name only addresses that the page server may show its own token to. */
const NAMES_OWN_SAFEKEEPERS: ReadonlySet<Scope> = new Set(["admin", "safekeeper"]);

function handlers(
  server: PageServer,
  guard: Guard,
  turns: Turns<TenantId>,
): Handlers<typeof PAGE_SERVER> {
  const { limits } = server;
  /** @throws {ZenithError} `not_found` when the tenant, or its timeline, does not exist */
  const hold = (names: { tenant: TenantId; timeline: TimelineId }): Promise<Hold<Timeline>> =>
    server.tenant(names.tenant).timelines.hold(names.timeline);
  /** @throws {ZenithError} `forbidden` */
  const maskFlagsOf = (
    { masked = false, unmasked = false }: { masked?: boolean | undefined; unmasked?: boolean | undefined },
    session: Session,
  ): MaskFlags => {
    if (unmasked) guard.check(session, "branches of what requires a mask", "admin", {});
    return { masked, unmasked };
  };

  return {
    status: () => server.status(),

    scrubStatus: () => scrubStatusJson(server.scrubFindings()),

    tenantsHeldBack: () => limits.heldBack(performance.now()),

    objectStoreStatus: () => server.objectStoreStatus(),

    tenantList: () => server.allTenants(),

    tenantStatus({ tenant }) {
      const { id, pgMajor } = server.tenant(tenant);
      return { tenant_id: id, pg_version: pgMajor };
    },

    async tenantCreate({ tenant, pg_version, locale, encoding, icu_locale, data_checksums }) {
      const cluster = { locale, encoding, icuLocale: icu_locale, dataChecksums: data_checksums };
      await server.createTenant(tenant, pg_version ?? null, cluster);
    },

    async tenantImport({ tenant, name, archive }, session) {
      await receiveImport(server, session, tenant, name, archive);
    },

    async followMount({ tenant, name, archive, backup }, session) {
      return importedJson(await mountBackup(server, tenant, name, archive, backup, session.signal));
    },

    async followStart({ tenant, name, limit, conninfo }, session) {
      return importedJson(await startFollowing(server, tenant, name, conninfo, limit, session.signal));
    },

    followList: () => server.followers.list().map(followedJson),

    transferList: () => server.transfers.list().map((transfer) => transfer.json()),

    async followStop({ tenant, name }) {
      await server.followers.stop(tenant, name);
    },

    async followResume({ tenant, name, conninfo }) {
      await server.followers.resume(tenant, name, conninfo);
    },

    followRemove: ({ tenant, name }) => server.followers.remove(tenant, name),

    async tenantDelete({ tenant }) {
      await server.deleteTenant(tenant);
    },

    async tenantPlace({ tenant }) {
      return { server: await server.placeOf(tenant) };
    },

    placeList: () =>
      server.places().map(({ tenant, place, isAlive }) => ({
        tenant_id: tenant,
        server: place.server,
        from: place.from,
        generation: place.generation,
        is_alive: isAlive,
      })),

    async tenantMove({ tenant, server: to }) {
      await server.moveTenant(tenant, formatHostPort(to));
    },

    async tenantAttach({ tenant, at }) {
      const untilMs = at === undefined ? undefined : msOfTimestamp(at);
      const { newestMs, ...attached } = await server.attachTenant(tenant, untilMs);
      return { ...attached, newest_at: new Date(newestMs).toISOString() };
    },

    async tenantAsOf({ tenant, at }) {
      const { branches, newestMs } = await server.tenantAsOf(tenant, msOfTimestamp(at));
      return {
        branches: branches.map(({ name, timelineId, endLsn }) => ({
          name,
          timeline_id: timelineId,
          end_lsn: formatLsn(endLsn),
        })),
        newest_at: new Date(newestMs).toISOString(),
      };
    },

    async tenantDetach({ tenant }) {
      await server.detachTenant(tenant);
    },

    deletedList: () =>
      server.deletedTimelines().map(({ tenantId, timelineId }) => ({
        tenant_id: tenantId,
        timeline_id: timelineId,
      })),

    async tenantConfig({ tenant, gc_horizon_bytes, pitr_interval }) {
      const owner = server.tenant(tenant);
      const config = { ...owner.config() };
      if (gc_horizon_bytes !== undefined) config.gc_horizon_bytes = gc_horizon_bytes;
      if (pitr_interval !== undefined) config.pitr_interval_s = Math.ceil(pitr_interval / 1000);
      if (gc_horizon_bytes !== undefined || pitr_interval !== undefined) await owner.setConfig(config);
      return {
        gc_horizon_bytes: config.gc_horizon_bytes,
        pitr_interval: formatDuration(config.pitr_interval_s * 1000),
      };
    },

    tenantLimits({ tenant }) {
      server.tenant(tenant);
      return limits.state(tenant);
    },

    tenantSetLimits({ tenant, ...changes }) {
      server.tenant(tenant);
      limits.change(tenant, changes);
      return limits.state(tenant);
    },

    async branchList({ tenant }, session) {
      const { branches } = await server.tenant(tenant).branches.survey();
      const maskedOnly = guard.principal(session).masked === true;
      return branches.filter(({ maskedFrom }) => !maskedOnly || maskedFrom !== null).map(branchJson);
    },

    async branchGet({ tenant, name }) {
      return branchJson(await server.tenant(tenant).branches.get(name));
    },

    async branchDamaged({ tenant }) {
      const { damaged } = await server.tenant(tenant).branches.survey();
      return damaged.map(({ name, timelineId, damage }) => ({ name, timeline_id: timelineId, damage }));
    },

    async branchCreate({ tenant, name, start, expires, ...wanted }, session) {
      const expiresMs = expires === undefined ? null : Date.now() + expires;
      const { branches } = server.tenant(tenant);
      const mayHave = () => {
        limits.assertRoom(tenant, "branches", 1);
        limits.assertRoom(tenant, "bytes", 1);
      };
      const maskFlags = maskFlagsOf(wanted, session);
      return branchJson(await branches.create(name, parseStartPoint(start), expiresMs, mayHave, maskFlags));
    },

    async branchRename({ tenant, name, to }) {
      return branchJson(await server.tenant(tenant).branches.rename(name, to));
    },

    async branchRestore({ tenant, name, start, keep_as, ...wanted }, session) {
      if (keep_as !== undefined) limits.assertRoom(tenant, "branches", 1);
      const { branch, deleted } = await server.restoreBranch(
        tenant,
        name,
        parseStartPoint(start),
        keep_as ?? null,
        maskFlagsOf(wanted, session),
      );
      return { branch: branchJson(branch), deleted: [...deleted] };
    },

    async branchSetExpiry({ tenant, name, expires }) {
      const expiresMs = expires === undefined ? null : Date.now() + expires;
      return branchJson(await server.tenant(tenant).branches.setExpiry(name, expiresMs));
    },

    async branchProtect({ tenant, name, off }) {
      return branchJson(await server.tenant(tenant).branches.protect(name, off !== true));
    },

    async branchRequireMask({ tenant, name, off }) {
      return branchJson(await server.tenant(tenant).branches.requireMask(name, off !== true));
    },

    async branchDelete({ tenant, name, cascade, stopping }) {
      const options = { cascade: cascade === true, stopping: stopping ?? 0 };
      return [...(await server.deleteBranch(tenant, name, options)).names];
    },

    async lsnAt({ tenant, timeline, timestamp }) {
      using held = await hold({ tenant, timeline });
      const { timelines } = server.tenant(tenant);
      const found = await whenPresent(() => lsnAt(timelines, held.value, timestamp));
      return { lsn: formatLsn(found.lsn), timeline_id: found.timeline.timelineId };
    },

    async timelineHistory(names) {
      using held = await hold(names);
      const time = (timestamp: number | null) => timestamp === null ? null : formatTimestamp(timestamp);
      const { timelines } = server.tenant(names.tenant);
      return (await whenPresent(() => historyOf(timelines, held.value))).map((part) => ({
        timeline_id: part.timelineId,
        lsn: formatLsn(part.lsn),
        time: time(part.time),
        kept_from_lsn: formatLsn(part.keptFrom),
        kept_from: time(part.keptFromTime),
        first_moment: time(part.firstTime),
      }));
    },

    async changedBlocks({ tenant, timeline, lsn, other_timeline, other_lsn, database }, session) {
      using one = await hold({ tenant, timeline });
      using other = await hold({ tenant, timeline: other_timeline });
      await one.value.waitFor(lsn, server.config.wait_lsn_timeout_ms, session.signal);
      await other.value.waitFor(other_lsn, server.config.wait_lsn_timeout_ms, session.signal);
      const changed = await changedBlocks(
        server.tenant(tenant).timelines,
        { timeline: one.value, lsn },
        { timeline: other.value, lsn: other_lsn },
        database,
        session.signal,
      );
      return changed.map(({ ranges, ...relation }) => ({ ...relation, ranges: [...ranges] }));
    },

    async timelineLayers(names) {
      using held = await hold(names);
      const { store, lastRecordLsn } = held.value;
      const key = (at: Key | undefined) => {
        if (at === undefined) return null;
        const { kind, a, b, c, d } = at.object;
        return [kind, a, b, c, d, at.block];
      };
      const layers = await listLayers(server.tenant(names.tenant), held.value);
      return {
        start_lsn: formatLsn(store.startLsn),
        disk_consistent_lsn: formatLsn(store.diskConsistentLsn),
        last_record_lsn: formatLsn(lastRecordLsn),
        memory_bytes: store.sizes().memoryBytes,
        layers: layers.map(({ entry, isImage, neededBy, cachedBytes }) => ({
          kind: isImage ? "image" : "delta",
          level: entry.level,
          start_lsn: formatLsn(toLsn(entry.startLsn)),
          end_lsn: formatLsn(toLsn(entry.endLsn)),
          first_key: key(entry.keys?.first),
          last_key: key(entry.keys?.last),
          size_bytes: entry.fileSize,
          cached_bytes: cachedBytes,
          needed_by: neededBy,
        })),
      };
    },

    async pageVersions({ lsn, ...page }, session) {
      using held = await hold(page);
      const source = held.value;
      if (lsn !== undefined) await source.waitFor(lsn, server.config.wait_lsn_timeout_ms, session.signal);
      const at = lsn ?? source.lastRecordLsn;
      const { versions, isComplete } = await pageVersions(source, page, at);
      return {
        lsn: formatLsn(at),
        versions: versions.map(({ lsn, kind, bytes }) => ({ lsn: formatLsn(lsn), kind, bytes })),
        complete: isComplete,
      };
    },

    async receiverStatus(names) {
      using held = await hold(names);
      return server.receiverState(held.value.timelineId) ?? { source: null, streaming: false, error: null };
    },

    async timelineStatus(names) {
      using held = await hold(names);
      const source = held.value;
      // The caller may continue the WAL from here, so everything before must be durable.
      await source.makeDurable();
      return {
        system_id: String(source.systemIdentifier),
        pg_version: source.pg.major,
        wal_segment_size: source.walSegmentSize,
        wal_position: formatLsn(source.position),
        safekeepers: source.safekeepers.list.map(formatHostPort),
        untouched: source.untouched,
        wal_timeline: newestTli(source.walTimelines),
        written: source.written,
      };
    },

    async timelineSettings({ lsn, tenant, timeline }) {
      return await inheritedSettings(server.tenant(tenant).timelines, timeline, lsn ?? null);
    },

    async timelineSetSettings({ settings, ...names }) {
      assertPacked("settings", () => decodeSettings(settings));
      using held = await hold(names);
      await held.value.settings.set(held.value.position, settings);
    },

    async timelineTakeSlots(names) {
      server.followers.assertWritable(names.timeline);
      const { timelines } = server.tenant(names.tenant);
      using held = await timelines.hold(names.timeline);
      const { slots, untouched, ancestorId, wal } = held.value;
      let parentSlots: string | null = null;
      if (untouched && ancestorId !== null) {
        using parent = await timelines.hold(ancestorId);
        parentSlots = parent.value.slots.state.slots;
      }
      const { generation, holdLsn, slots: own } = await slots.take();
      return {
        generation,
        slots: own,
        hold_lsn: holdLsn === null ? null : formatLsn(holdLsn),
        wal_from: formatLsn(wal.startLsn),
        hold_max_bytes: server.config.slot_wal_max_bytes,
        parent_slots: parentSlots,
      };
    },

    async timelineSetSlots({ generation, slots, hold: holdLsn = null, ...names }) {
      assertPacked("replication slots", () => decodeSlots(slots));
      using held = await hold(names);
      await held.value.slots.set({ generation, slots, holdLsn });
      return { wal_from: formatLsn(held.value.wal.startLsn) };
    },

    async timelineSafekeepers({ safekeepers, ...names }) {
      using held = await hold(names);
      const source = held.value;
      if (safekeepers.length === 0 && server.isAttached(source.timelineId)) {
        throw new ZenithError("conflict", `a compute runs on timeline ${source.timelineId}`);
      }
      await source.safekeepers.set(safekeepers);
    },

    async pagestream(names, session) {
      using held = await hold(names);
      using turn = turns.join(names.tenant);
      const count = () => limits.begin(names.tenant);
      const { timelines } = server.tenant(names.tenant);
      const readWal: ReadWal = (lsn, into) => readSegmentBefore(timelines, held.value, lsn, into);
      await servePagestream(session, held.value, readWal, server.config.wait_lsn_timeout_ms, turn, count);
    },

    async basebackup({ lsn = null, wal_from: walFrom = lsn, lazy, own_wal: ownWal, ...names }, session) {
      using held = await hold(names);
      using turn = turns.join(names.tenant);
      const source = held.value;
      if (lsn !== null) await source.waitFor(lsn, server.config.wait_lsn_timeout_ms, session.signal);
      const boundary = await whenPresent(() => source.boundary(lsn));
      // A compute that starts from this basebackup keeps reading at that LSN for a while.
      await source.leases.take(boundary.lsn, DEFAULT_LEASE_MS, Date.now());
      // That compute also continues the WAL from here, so everything before must be durable.
      await source.makeDurable();
      const { timelines } = server.tenant(names.tenant);
      const content = lazy === true ? "lazy" : "complete";
      const isOwnOnly = lazy === true && ownWal === true;
      using head = isOwnOnly
        ? WalHead.openOwn(source, boundary.lsn)
        : WalHead.open(timelines, source, boundary.lsn);
      const before = segmentsBefore(timelines, source, walFrom ?? boundary.lsn, boundary.lsn);
      const archive = basebackup(source, boundary, head, { content, before, isOwnOnly, turn });
      // Computes get theirs all the time; nobody waits for one that is not an export.
      if (session.params.get("application_name") !== EXPORT_APPLICATION) {
        return await session.copyOut(archive);
      }
      await server.transfers.run({
        kind: "export",
        tenant: names.tenant,
        branch: server.nameOf(names.tenant, names.timeline),
        peer: session.remoteAddress,
        estimatedBytes: await estimateOf(source),
      }, (transfer) => session.copyOut(transfer.counted(archive)));
    },

    async callmemaybe({ conninfo, ...names }, session) {
      const isOwn = NAMES_OWN_SAFEKEEPERS.has(guard.principal(session).scope);
      server.receiveFrom(await hold(names), conninfo, isOwn);
    },

    async timelineSwitch({ lsn, ...names }, session) {
      using held = await hold(names);
      const source = held.value;
      await source.waitFor(lsn, server.config.wait_lsn_timeout_ms, session.signal);
      const boundary = await whenPresent(() => source.boundary(lsn));
      const { lsn: from, bytes } = await whenPresent(() => switchOf(source, boundary));
      return { lsn: formatLsn(from), wal: Buffer.from(bytes).toString("hex") };
    },

    async walTimelines(names) {
      using held = await hold(names);
      return held.value.walTimelines.map(formatLsn);
    },

    async walRead({ tenant, timeline, lsn, until }, session) {
      await session.copyOut(server.storedWal(tenant, timeline, lsn, until));
    },

    async computeAttach(names, session) {
      using held = await hold(names);
      if (!server.isAttached(names.timeline)) limits.assertRoom(names.tenant, "computes", 1);
      held.value.assertPresent();
      const compute = new AttachedCompute(session.copyBoth());
      const detach = server.attach(held.value, compute);
      try {
        await unlessAborted(compute.run(), held.value.leaving);
      } finally {
        detach();
      }
    },

    async leaseLsn({ lsn, duration = DEFAULT_LEASE_MS, holder, ...names }) {
      using held = await hold(names);
      const source = held.value;
      const boundary = await whenPresent(() => source.boundary(lsn));
      const end = await source.leases.take(boundary.lsn, duration, Date.now(), holder);
      return { lsn: formatLsn(boundary.lsn), expires_at: new Date(end).toISOString() };
    },

    async leaseRelease({ lsn, holder, ...names }) {
      using held = await hold(names);
      await held.value.leases.release(lsn, holder);
    },

    async doGc({ horizon, ...names }) {
      const owner = server.tenant(names.tenant);
      using held = await hold(names);
      const source = held.value;
      // Only history in layers can be removed.
      await source.store.flush();
      const report = await owner.collectGarbage(source, horizon);
      return {
        layers_total: report.layersTotal,
        layers_needed_by_cutoff: report.layersNeededByCutoff,
        layers_needed_by_pitr: report.layersNeededByPitr,
        layers_needed_by_branches: report.layersNeededByBranches,
        layers_needed_by_leases: report.layersNeededByLeases,
        layers_removed: report.layersRemoved,
        layers_created: report.layersCreated,
        versions_removed: report.versionsRemoved,
        images_created: report.imagesCreated,
        bytes_removed: report.bytesRemoved,
        elapsed_ms: report.elapsedMs,
      };
    },
  };
}

/**
 * What can't be unpacked would be found out by the next start of the branch's Postgres, which could
 * not do without.
 *
 * @throws {ZenithError} `invalid_argument`
 */
function assertPacked(what: string, unpack: () => unknown): void {
  try {
    unpack();
  } catch (error) {
    throw new ZenithError("invalid_argument", `these are no ${what} of a branch: ${errorMessage(error)}`);
  }
}

/** Converts a branch to its wire form. */
function branchJson(branch: BranchInfo) {
  return {
    name: branch.name,
    timeline_id: branch.timelineId,
    latest_valid_lsn: formatLsn(branch.latestValidLsn),
    next_lsn: formatLsn(branch.nextLsn),
    ancestor_id: branch.ancestorId,
    ancestor_lsn: branch.ancestorLsn === null ? null : formatLsn(branch.ancestorLsn),
    expires_at: branch.expiresMs === null ? null : new Date(branch.expiresMs).toISOString(),
    is_protected: branch.isProtected,
    requires_mask: branch.requiresMask,
    masked_from_lsn: branch.maskedFrom === null ? null : formatLsn(branch.maskedFrom),
    logical_size_bytes: branch.logicalBytes,
    physical_size_bytes: branch.physicalBytes,
    ...(branch.damage === null ? {} : { damage: branch.damage }),
  };
}
