/** Implements the commands that a safekeeper serves over the PostgreSQL wire protocol. */
import { errorMessage, ZenithError } from "../common/errors.ts";
import type { TenantId } from "../common/id.ts";
import { formatLsn, type Lsn } from "../common/lsn.ts";
import type { Column } from "../pgwire/column.ts";
import { bareCommand } from "../pgwire/command_text.ts";
import { parseStartReplication } from "../pgwire/replication.ts";
import { IDENTIFY_SYSTEM_COLUMNS, READ_SLOT_COLUMNS, SLOT_COLUMNS } from "../pgwire/replication_columns.ts";
import type { ConnectionHandler, Session } from "../pgwire/session.ts";
import { nextRecordLsn, segmentStart } from "../postgres/wal/page_header.ts";
import { historyOf, leftAt, newestTli, tliAt } from "../postgres/wal/wal_timelines.ts";
import {
  checkTimeline,
  sendNextTimeline,
  sendTimelineHistory,
  TIMELINE_HISTORY,
  TIMELINE_HISTORY_COLUMNS,
} from "../protocol/replication_timelines.ts";
import { namedBySession, sessionTimeline } from "../protocol/session_timeline.ts";
import { RECOVERY_TERM_OPTION, WAL_RECEIVER_NAME } from "../protocol/wal_connection.ts";
import type { OlderWal } from "./older_wal.ts";
import type { SlotUse } from "./standby_slots.ts";
import type { SafekeeperTimeline } from "./timeline.ts";
import type { Timelines } from "./timelines.ts";
import { serveWalPush } from "./wal_push.ts";
import { type WalReader, WalSender } from "./wal_sender.ts";
import { SAFEKEEPER, type SafekeeperTimelineJson } from "../protocol/management.ts";
import type { Guard } from "../protocol/guard.ts";
import type { Named } from "../protocol/operation.ts";
import { type Handlers, OperationService } from "../protocol/operation_service.ts";
import type { TenantLimits } from "../protocol/tenant_limits.ts";
import { type ScrubFindings, scrubStatusJson } from "../protocol/scrub_status.ts";

/**
 * A command of PostgreSQL's replication protocol. Zenith's own commands are in the management
 * contract.
 */
interface Command {
  readonly pattern: RegExp;
  /** Null when the answer has no rows. */
  columns(match: RegExpExecArray): readonly Column[] | null;
  run(
    service: SafekeeperService,
    session: Session,
    match: RegExpExecArray,
    sql: string,
  ): void | Promise<void>;
}

/** The settings that a walsender shows to pg_receivewal and standbys. */
const SETTINGS: Readonly<Record<string, (timeline: SafekeeperTimeline) => string>> = {
  wal_segment_size: (timeline) => `${timeline.identity.segmentSize >> 20}MB`,
  data_directory_mode: () => "0700",
};

const REPLICATION_COMMANDS: readonly Command[] = [
  {
    pattern: /^start_replication\b/i,
    columns: () => null,
    run: (service, session, _match, sql) => service.startReplication(session, sql),
  },
  {
    pattern: /^identify_system$/i,
    columns: () => IDENTIFY_SYSTEM_COLUMNS,
    run: async (service, session) => {
      const { identity, state, walTimelines } = await service.readableTimelineOf(session);
      session.sendRows(
        IDENTIFY_SYSTEM_COLUMNS,
        [[String(identity.systemId), newestTli(walTimelines), formatLsn(state.commitLsn), null]],
        "IDENTIFY_SYSTEM",
      );
    },
  },
  {
    pattern: TIMELINE_HISTORY,
    columns: () => TIMELINE_HISTORY_COLUMNS,
    run: async (service, session, [, tli]) => {
      const { walTimelines } = await service.readableTimelineOf(session);
      sendTimelineHistory(session, historyOf(walTimelines, Number(tli)), Number(tli));
    },
  },
  {
    // A page server asks for its slot. WAL that it has not confirmed is kept even without one.
    pattern: new RegExp(
      `^create_replication_slot\\s+"?${WAL_RECEIVER_NAME}"?\\s+physical(?:\\s.*)?$`,
      "i",
    ),
    columns: () => SLOT_COLUMNS,
    run: (_service, session) => {
      session.sendRows(
        SLOT_COLUMNS,
        [[WAL_RECEIVER_NAME, "0/0", null, null]],
        "CREATE_REPLICATION_SLOT",
      );
    },
  },
  {
    pattern: /^read_replication_slot\s+"?([a-z0-9_]{1,63})"?$/i,
    columns: () => READ_SLOT_COLUMNS,
    run: async (service, session, [, name]) => {
      const { slots, walTimelines } = await service.readableTimelineOf(session);
      const found = slots.list().find((slot) => slot.name === name);
      const row = found === undefined
        ? [null, null, null]
        : ["physical", formatLsn(found.restartLsn), String(tliAt(walTimelines, found.restartLsn))];
      session.sendRows(READ_SLOT_COLUMNS, [row], "READ_REPLICATION_SLOT");
    },
  },
  {
    pattern: /^show\s+(wal_segment_size|data_directory_mode)$/i,
    columns: ([, name]) => [{ name: name!.toLowerCase(), type: "text" }],
    run: async (service, session, [, name]) => {
      const setting = name!.toLowerCase();
      const value = SETTINGS[setting](await service.timelineOf(session));
      session.sendRows([{ name: setting, type: "text" }], [[value]], "SHOW");
    },
  },
];

/** The safekeeper's commands over the wire. */
export class SafekeeperService implements ConnectionHandler {
  readonly timelines: Timelines;
  readonly guard: Guard;
  readonly #operations: OperationService;
  readonly #readers = new Map<SafekeeperTimeline, Set<{ readonly neededLsn: Lsn }>>();
  readonly #older: OlderWal | null;

  /**
   * @param guard decides who may call what
   * @param limits decides how much each tenant may take
   * @param findings returns the known damage to the data here
   * @param older has WAL that was removed here. Null when nobody has
   */
  constructor(
    timelines: Timelines,
    guard: Guard,
    limits: TenantLimits,
    findings: () => ScrubFindings,
    older: OlderWal | null,
  ) {
    this.#older = older;
    this.timelines = timelines;
    this.guard = guard;
    this.#operations = new OperationService(
      "a safekeeper",
      guard,
      limits,
      SAFEKEEPER,
      handlers(timelines, guard, limits, findings),
      ["START_REPLICATION", "IDENTIFY_SYSTEM"],
    );
  }

  startup(session: Session): void {
    this.#operations.startup(session);
  }

  closed(session: Session): void {
    this.#operations.closed(session);
  }

  describe(session: Session, sql: string): readonly Column[] | null {
    const { command, match } = replicationCommand(bareCommand(sql));
    return command === undefined ? this.#operations.describe(session, sql) : command.columns(match);
  }

  async query(session: Session, sql: string, params: readonly (string | null)[] = []): Promise<void> {
    const text = bareCommand(sql);
    const { command, match } = replicationCommand(text);
    if (command === undefined) {
      await this.#operations.query(session, sql, params);
      return;
    }
    // Those who read for another acceptor get WAL that is not committed.
    const access = session.options.has(RECOVERY_TERM_OPTION) ? "compute" : "wal";
    const [word = ""] = text.split(/\s/, 1);
    this.guard.check(session, word.toUpperCase(), access, namedBySession(session));
    await command.run(this, session, match, text);
  }

  /**
   * Returns the timeline that the connection's options name.
   *
   * @throws {ZenithError} when the options name no timeline, or one that isn't here
   */
  timelineOf(session: Session): Promise<SafekeeperTimeline> {
    return this.timelines.get(sessionTimeline(session));
  }

  /** As {@link timelineOf}, when the timelines of its WAL have to be known. */
  async readableTimelineOf(session: Session): Promise<SafekeeperTimeline> {
    const timeline = await this.timelineOf(session);
    await timeline.learnWalTimelines(this.#older);
    return timeline;
  }

  async startReplication(session: Session, sql: string): Promise<void> {
    const { startLsn, timeline: named, slot } = parseStartReplication(sql);
    const timeline = await this.timelineOf(session);
    using use = slot === undefined ? undefined : timeline.slots.use(slot);
    const reader = readerOf(session, timeline, this.guard, use);
    // Zenith's own readers take all WAL. A PostgreSQL has to hear where a timeline was left.
    const isOwn = reader.kind === "recovery" || reader.comesWhenCalled;
    const tli = isOwn ? undefined : named;
    if (tli !== undefined) {
      await timeline.learnWalTimelines(this.#older);
      checkTimeline(timeline.walTimelines, tli, startLsn);
    }
    // From now on, no more is removed of what this reader goes on with.
    using kept = this.#keepFor(timeline, { neededLsn: startLsn });
    // A page server would get its own WAL back.
    const older = reader.kind === "committed" && !reader.comesWhenCalled ? this.#older : null;
    checkStart(timeline, reader, startLsn, older !== null);
    if (older !== null) await checkOlder(timeline, older, startLsn);
    const sender = new WalSender(timeline, session.copyBoth(), reader, { startLsn, tli }, older);
    using _needed = this.#keepFor(timeline, sender);
    kept[Symbol.dispose]();
    await sender.run();
    const left = tli === undefined ? null : leftAt(timeline.walTimelines, tli);
    if (left !== null && sender.isAtEnd) sendNextTimeline(session, tli!, left);
  }

  /** Keeps WAL that a reader needs, until the result is disposed of. */
  #keepFor(timeline: SafekeeperTimeline, reader: { readonly neededLsn: Lsn }): Disposable {
    const readers = this.#readers.get(timeline) ?? new Set();
    this.#readers.set(timeline, readers);
    readers.add(reader);
    return {
      [Symbol.dispose]: () => {
        if (!readers.delete(reader)) return;
        if (readers.size === 0) this.#readers.delete(timeline);
      },
    };
  }

  /** The lowest position that a reader may still need: one that is connected, or has a slot. */
  neededLsn(timeline: SafekeeperTimeline): Lsn {
    let lsn = timeline.slots.keepFrom(timeline.state.commitLsn);
    for (const { neededLsn } of this.#readers.get(timeline) ?? []) {
      if (neededLsn < lsn) lsn = neededLsn;
    }
    return lsn;
  }
}

function handlers(
  timelines: Timelines,
  guard: Guard,
  limits: TenantLimits,
  findings: () => ScrubFindings,
): Handlers<typeof SAFEKEEPER> {
  return {
    async timelineStatus({ tenant, timeline }) {
      if (tenant !== undefined && timeline !== undefined) {
        return [timelineStatus(await timelines.get({ tenantId: tenant, timelineId: timeline }))];
      }
      return (await timelines.openAll()).opened.map(timelineStatus);
    },

    async timelineDamaged() {
      return (await timelines.openAll()).failed.map(({ name, error }) => ({
        tenant_id: name.tenantId,
        timeline_id: name.timelineId,
        damage: {
          what: errorMessage(error),
          hint:
            "put its files back from a copy; where other safekeepers have its WAL, commits go on without it",
        },
      }));
    },

    scrubStatus: () => scrubStatusJson(findings()),

    tenantsHeldBack: () => limits.heldBack(performance.now()),

    tenantLimits: ({ tenant }) => limits.state(tenant),

    tenantSetLimits({ tenant, ...changes }) {
      limits.change(tenant, changes);
      return limits.state(tenant);
    },

    async timelineDelete({ tenant, timeline }) {
      await timelines.delete({ tenantId: tenant, timelineId: timeline });
    },

    async timelineLowerTerm({ tenant, timeline, term }) {
      (await timelines.get({ tenantId: tenant, timelineId: timeline })).lowerTerm(term);
    },

    async timelineCreateStandbySlot({ tenant, timeline, name, max_bytes }) {
      const found = await timelines.get({ tenantId: tenant, timelineId: timeline });
      await found.slots.create(name, found.state.commitLsn, max_bytes);
    },

    async timelineDropStandbySlot({ tenant, timeline, name }) {
      await (await timelines.get({ tenantId: tenant, timelineId: timeline })).slots.drop(name);
    },

    async startWalPush(_args, session) {
      const check = (named: Named) => {
        const { name, access } = SAFEKEEPER.startWalPush;
        guard.check(session, name, access, named);
      };
      const paceMs = (tenant: TenantId, bytes: number) => limits.walTaken(tenant, bytes, performance.now());
      await serveWalPush(session, timelines, check, paceMs);
    },
  };
}

function replicationCommand(
  text: string,
): { command: Command; match: RegExpExecArray } | { command: undefined; match: undefined } {
  for (const command of REPLICATION_COMMANDS) {
    const match = command.pattern.exec(text);
    if (match !== null) return { command, match };
  }
  return { command: undefined, match: undefined };
}

function readerOf(
  session: Session,
  timeline: SafekeeperTimeline,
  guard: Guard,
  use: SlotUse | undefined,
): WalReader {
  const term = session.options.get(RECOVERY_TERM_OPTION);
  if (term !== undefined) {
    if (!/^\d{1,15}$/.test(term)) throw new ZenithError("invalid_argument", `"${term}" is not a term`);
    return { kind: "recovery", term: Number(term) };
  }
  // Whoever only reads must not make the safekeeper remove WAL.
  const isPageserver = session.params.get("application_name") === WAL_RECEIVER_NAME &&
    guard.allows(session, "confirm", namedBySession(session));
  return {
    kind: "committed",
    comesWhenCalled: isPageserver,
    onFlush: (lsn) => {
      if (isPageserver) timeline.feedback(lsn);
      use?.confirm(lsn);
    },
  };
}

/** @param isOlderKept whether somebody may have the WAL that was removed here */
function checkStart(
  timeline: SafekeeperTimeline,
  reader: WalReader,
  startLsn: Lsn,
  isOlderKept: boolean,
): void {
  const { walStore, state, identity } = timeline;
  if (walStore === undefined) {
    throw new ZenithError("out_of_range", `there is no WAL of timeline ${identity.timelineId} here yet`);
  }
  const first = isOlderKept ? state.timelineStartLsn : walStore.startLsn;
  // Archivers and standbys ask for whole segments. If the timeline began in the middle of a
  // segment, the part before was never sent here. Readers would get zeros for it, and may already
  // have the true bytes.
  if (
    startLsn >= segmentStart(first, identity.segmentSize) && isMissed(startLsn, first, identity.segmentSize)
  ) {
    throw new ZenithError(
      "out_of_range",
      `WAL from ${formatLsn(startLsn)} to ${
        formatLsn(first)
      } was never here: timeline ${identity.timelineId} ` +
        `begins in the middle of that segment`,
      { hint: "take this segment from the compute: its Postgres, or its archive_command, has all of it" },
    );
  }
  const end = reader.kind === "recovery" ? state.durableLsn : state.commitLsn;
  // A reader at the end of a page asks for what follows the next page's header.
  if (
    isMissed(startLsn, first, identity.segmentSize) || startLsn > nextRecordLsn(end, identity.segmentSize)
  ) {
    throw new ZenithError(
      "out_of_range",
      `WAL from ${formatLsn(startLsn)} on is not here: this safekeeper has ${formatLsn(first)} to ${
        formatLsn(end)
      }`,
    );
  }
}

/**
 * Sees that WAL which was removed here can be read back, before its reader is told that it comes.
 *
 * @throws {ZenithError} `out_of_range`
 */
async function checkOlder(timeline: SafekeeperTimeline, older: OlderWal, startLsn: Lsn): Promise<void> {
  const { walStore, state, identity } = timeline;
  const first = walStore!.startLsn;
  if (!isMissed(startLsn, first, identity.segmentSize)) return;
  try {
    for await (const _bytes of older.read(identity, startLsn, first)) return;
  } catch (error) {
    throw new ZenithError(
      "out_of_range",
      `WAL from ${formatLsn(startLsn)} on is not here: this safekeeper has ${formatLsn(first)} to ${
        formatLsn(state.commitLsn)
      }, and the page server can't read it back: ${errorMessage(error)}`,
      { cause: error },
    );
  }
}

/** Whether more than a page header lies between the two positions. */
function isMissed(startLsn: Lsn, first: Lsn, segmentSize: number): boolean {
  return startLsn < first && nextRecordLsn(startLsn, segmentSize) < first;
}

/** Returns a timeline as TIMELINE_STATUS shows it. */
function timelineStatus(timeline: SafekeeperTimeline): SafekeeperTimelineJson {
  const { identity, state, walStore } = timeline;
  return {
    tenant_id: identity.tenantId,
    timeline_id: identity.timelineId,
    term: state.term,
    term_history: state.history.map(({ term, startLsn }) => ({ term, start_lsn: formatLsn(startLsn) })),
    timeline_start_lsn: formatLsn(state.timelineStartLsn),
    flush_lsn: formatLsn(state.flushLsn),
    commit_lsn: formatLsn(state.commitLsn),
    remote_consistent_lsn: formatLsn(state.remoteConsistentLsn),
    wal_bytes: walStore?.sizes().bytes ?? 0,
    wal_start_lsn: walStore === undefined ? null : formatLsn(walStore.startLsn),
    standby_slots: timeline.slots.list().map(({ name, restartLsn, maxBytes, active }) => ({
      name,
      restart_lsn: formatLsn(restartLsn),
      max_bytes: maxBytes,
      active,
    })),
  };
}
