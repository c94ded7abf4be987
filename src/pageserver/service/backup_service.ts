/**
 * Serves what pg_basebackup asks of a server: PostgreSQL's replication protocol, on connections
 * whose options name the timeline. Everything else goes to the page server's own commands.
 */
import { ZenithError } from "../../common/errors.ts";
import type { Hold } from "../../common/held.ts";
import type { TenantId } from "../../common/id.ts";
import { formatLsn } from "../../common/lsn.ts";
import type { Column } from "../../pgwire/column.ts";
import { bareCommand } from "../../pgwire/command_text.ts";
import {
  IDENTIFY_SYSTEM_COLUMNS,
  READ_SLOT_COLUMNS,
  SLOT_COLUMNS,
} from "../../pgwire/replication_columns.ts";
import { parseStartReplication } from "../../pgwire/replication.ts";
import type { ConnectionHandler, Session } from "../../pgwire/session.ts";
import { historyOf, leftAt, newestTli } from "../../postgres/wal/wal_timelines.ts";
import type { Guard } from "../../protocol/guard.ts";
import {
  checkTimeline,
  sendNextTimeline,
  sendTimelineHistory,
  TIMELINE_HISTORY,
  TIMELINE_HISTORY_COLUMNS,
} from "../../protocol/replication_timelines.ts";
import { namedBySession, sessionTimeline } from "../../protocol/session_timeline.ts";
import type { RecordBoundary, Timeline } from "../timeline/timeline.ts";
import { sendBaseBackup } from "./base_backup.ts";
import { BackupWalSender } from "./backup_wal_sender.ts";
import { isTimelineMasked } from "./masked_access.ts";
import type { PageServer } from "./page_server.ts";
import { estimateOf } from "./transfers.ts";
import type { Turns } from "./turns.ts";

interface Command {
  readonly pattern: RegExp;
  /** Whether it lasts as long as its client wants. */
  readonly isStream?: true;
  /** Null when the answer is not rows alone. */
  columns(match: RegExpExecArray): readonly Column[] | null;
  run(service: BackupService, session: Session, match: RegExpExecArray, text: string): Promise<void>;
}

const SETTINGS: Readonly<Record<string, (timeline: Timeline) => string>> = {
  wal_segment_size: ({ walSegmentSize }) => `${walSegmentSize >> 20}MB`,
  data_directory_mode: () => "0700",
};

const COMMANDS: readonly Command[] = [
  {
    pattern: /^identify_system$/i,
    columns: () => IDENTIFY_SYSTEM_COLUMNS,
    async run(service, session) {
      using held = await service.hold(session);
      const { systemIdentifier, walTimelines, position } = held.value;
      const row = [String(systemIdentifier), newestTli(walTimelines), formatLsn(position), null];
      session.sendRows(IDENTIFY_SYSTEM_COLUMNS, [row], "IDENTIFY_SYSTEM");
    },
  },
  {
    pattern: TIMELINE_HISTORY,
    columns: () => TIMELINE_HISTORY_COLUMNS,
    async run(service, session, [, tli]) {
      using held = await service.hold(session);
      sendTimelineHistory(session, historyOf(held.value.walTimelines, Number(tli)), Number(tli));
    },
  },
  {
    pattern: /^show\s+(wal_segment_size|data_directory_mode)$/i,
    columns: ([, name]) => [{ name: name!.toLowerCase(), type: "text" }],
    async run(service, session, [, name]) {
      using held = await service.hold(session);
      const setting = name!.toLowerCase();
      session.sendRows([{ name: setting, type: "text" }], [[SETTINGS[setting]!(held.value)]], "SHOW");
    },
  },
  {
    pattern: /^create_replication_slot\s+"?([a-z0-9_]{1,63})"?\s+(temporary\s+)?physical(?:\s.*)?$/i,
    columns: () => SLOT_COLUMNS,
    async run(service, session, [, name, temporary]) {
      if (temporary === undefined) {
        throw new ZenithError("not_implemented", "the page server has no slots that last", {
          hint: "it keeps WAL for a base backup that runs, by a temporary slot",
        });
      }
      await service.keepWal(session);
      session.sendRows(SLOT_COLUMNS, [[name!, "0/0", null, null]], "CREATE_REPLICATION_SLOT");
    },
  },
  {
    pattern: /^read_replication_slot\s+\S+$/i,
    columns: () => READ_SLOT_COLUMNS,
    run(_service, session) {
      session.sendRows(READ_SLOT_COLUMNS, [[null, null, null]], "READ_REPLICATION_SLOT");
      return Promise.resolve();
    },
  },
  {
    pattern: /^base_backup\b/i,
    columns: () => null,
    async run(service, session, _match, text) {
      using held = await service.hold(session);
      const { server, turns } = service;
      const { tenantId, timelineId } = sessionTimeline(session);
      const { timelines } = server.tenant(tenantId);
      const { value: timeline } = held;
      using turn = turns.join(tenantId);
      await server.transfers.run(
        {
          kind: "base_backup",
          tenant: tenantId,
          branch: server.nameOf(tenantId, timelineId),
          peer: session.remoteAddress,
          estimatedBytes: await estimateOf(timeline),
        },
        (transfer) =>
          sendBaseBackup({ server, session, timelines, timeline, turn, transfer }, text, (at) => {
            service.stoppedAt.set(timeline, at);
          }),
      );
    },
  },
  {
    pattern: /^start_replication\b/i,
    isStream: true,
    columns: () => null,
    run: (service, session, _match, text) => service.startReplication(session, text),
  },
];

export class BackupService implements ConnectionHandler {
  readonly server: PageServer;
  readonly turns: Turns<TenantId>;
  readonly #guard: Guard;
  readonly #operations: ConnectionHandler;
  /** Where the newest backup of a timeline ends that nobody writes to. */
  readonly stoppedAt = new WeakMap<Timeline, RecordBoundary>();
  /** What the temporary slots of sessions keep. */
  readonly #kept = new Map<Session, Disposable>();

  /** @param operations serves all other commands */
  constructor(server: PageServer, guard: Guard, turns: Turns<TenantId>, operations: ConnectionHandler) {
    this.server = server;
    this.turns = turns;
    this.#guard = guard;
    this.#operations = operations;
  }

  /** Lets clients of the replication protocol see the major that they deal with. */
  async startup(session: Session): Promise<void> {
    await this.#operations.startup?.(session);
    if (session.params.get("replication") === undefined) return;
    const named = namedBySession(session);
    if (named.tenant === undefined || !await this.#mayRead(session)) return;
    session.serverMajor = this.server.tenant(named.tenant).pgMajor;
  }

  describe(session: Session, sql: string): readonly Column[] | null {
    const found = find(bareCommand(sql));
    return found === undefined ? this.#operations.describe(session, sql) : found.command.columns(found.match);
  }

  async query(session: Session, sql: string, params: readonly (string | null)[]): Promise<void> {
    const text = bareCommand(sql);
    const found = find(text);
    if (found === undefined) return await this.#operations.query(session, sql, params);
    const [word = ""] = text.split(/[\s(]/, 1);
    await this.#check(session, word.toUpperCase());
    // As any command but a stream, which is counted as a connection.
    const { tenant } = this.#guard.principal(session);
    using _counted = tenant === undefined || found.command.isStream === true
      ? undefined
      : this.server.limits.begin(tenant);
    await found.command.run(this, session, found.match, text);
  }

  /** @throws {ZenithError} `forbidden` */
  async #check(session: Session, what: string): Promise<void> {
    const named = namedBySession(session);
    await this.#guard.checkAll(session, what, "read", named, async () => {
      const [timeline] = named.timelines ?? [];
      if (named.tenant === undefined || timeline === undefined) return false;
      return await isTimelineMasked(this.server, named.tenant, timeline);
    });
  }

  async #mayRead(session: Session): Promise<boolean> {
    try {
      await this.#check(session, "the replication protocol");
      return true;
    } catch (error) {
      if (error instanceof ZenithError && error.kind === "forbidden") return false;
      throw error;
    }
  }

  closed(session: Session): void {
    this.#kept.get(session)?.[Symbol.dispose]();
    this.#kept.delete(session);
    this.#operations.closed?.(session);
  }

  /** @throws {ZenithError} `not_found`; `invalid_argument` when the options name no timeline */
  hold(session: Session): Promise<Hold<Timeline>> {
    const { tenantId, timelineId } = sessionTimeline(session);
    return this.server.tenant(tenantId).timelines.hold(timelineId);
  }

  /** Keeps the timeline's WAL from now on, until the session ends. */
  async keepWal(session: Session): Promise<void> {
    const held = await this.hold(session);
    const wal = held.value.holdWal(held.value.position);
    const kept = {
      [Symbol.dispose]: () => {
        wal[Symbol.dispose]();
        held[Symbol.dispose]();
      },
    };
    this.#kept.get(session)?.[Symbol.dispose]();
    this.#kept.set(session, kept);
    if (session.closed) this.closed(session);
  }

  async startReplication(session: Session, text: string): Promise<void> {
    const { startLsn, timeline: tli } = parseStartReplication(text);
    using held = await this.hold(session);
    const timeline = held.value;
    const { tenantId } = sessionTimeline(session);
    const { timelines } = this.server.tenant(tenantId);
    const stopped = this.stoppedAt.get(timeline);
    if (tli !== undefined) checkTimeline(timeline.walTimelines, tli, startLsn);
    const sender = new BackupWalSender(timelines, timeline, { startLsn, tli }, stopped);
    await sender.run(session);
    const left = tli === undefined ? null : leftAt(timeline.walTimelines, tli);
    if (left !== null && sender.isAtEnd) sendNextTimeline(session, tli!, left);
  }
}

function find(text: string): { command: Command; match: RegExpExecArray } | undefined {
  for (const command of COMMANDS) {
    const match = command.pattern.exec(text);
    if (match !== null) return { command, match };
  }
  return undefined;
}
