/**
 * The management contract: every operation of the page server and of the safekeeper, once.
 * PostgreSQL's own replication commands (START_REPLICATION, IDENTIFY_SYSTEM, …) are not here.
 */
import {
  array,
  boolean,
  type GenericSchema,
  type InferInput,
  type InferOutput,
  nullable,
  number,
  object,
  optional,
  pipe,
  regex,
  string,
  transform,
} from "valibot";
import { formatDuration, parseDuration } from "../common/duration.ts";
import { formatHostPort, type HostPort, parseHostPort } from "../common/host_port.ts";
import { isId, parseBranchName, parseTenantId, parseTimelineId } from "../common/id.ts";
import { formatLsn, parseLsn } from "../common/lsn.ts";
import { parsePostgresMajor } from "../common/postgres_major.ts";
import { formatTimestamp, parseTimestamp } from "../common/timestamp.ts";
import { SETTINGS_WORD } from "./branch_settings.ts";
import { SLOTS_WORD } from "./branch_slots.ts";
import type { Access, Arg, Args, BareReply, FiguresReply, JsonReply, Operation, Reply } from "./operation.ts";

/**
 * What a basebackup holds. `complete`: everything. `lazy`: a list of the relation files instead of
 * the files, for a compute that fetches their pages as it needs them, and of the last WAL segment
 * what is in use (docs/formats/relation_manifest.md).
 */
export type BasebackupContent = "complete" | "lazy";

// Arguments.

function word<T>(
  placeholder: string,
  schema: GenericSchema<string, T>,
  format: (value: T) => string = String,
): Arg<T, false> {
  return { form: "word", optional: false, placeholder, schema, format };
}

function maybe<T>(arg: Arg<T>): Arg<T, true> {
  return { ...arg, optional: true };
}

function named<T>(arg: Arg<T>): Arg<T, true> {
  return { ...arg, form: "named", optional: true };
}

/** Takes everything that follows, blanks included. */
function rest<T>(arg: Arg<T>): Arg<T, false> {
  return { ...arg, form: "rest", optional: false };
}

function flag(name: string): Arg<boolean, true> {
  const schema = pipe(string(), transform(() => true));
  return { form: "flag", optional: true, placeholder: name, schema, format: () => name };
}

const LsnSchema = pipe(string(), transform(parseLsn));
const TenantIdSchema = pipe(string(), transform(parseTenantId));
const TimelineIdSchema = pipe(string(), transform(parseTimelineId));
const HostPortSchema = pipe(string(), transform(parseHostPort));

/** Digits that a number holds exactly. */
const DIGITS_PATTERN = /^\d{1,15}$/;

const TENANT = word("tenant", TenantIdSchema);
const TIMELINE = word("timeline", TimelineIdSchema);
const LSN = word("LSN", LsnSchema, formatLsn);
const DURATION = word("duration", pipe(string(), transform(parseDuration)), formatDuration);
const BYTES = word(
  "bytes",
  pipe(string(), regex(DIGITS_PATTERN, "expected a number of bytes"), transform(Number)),
);
const TERM = word("term", pipe(string(), regex(DIGITS_PATTERN, "expected a term"), transform(Number)));
const OID = word("oid", pipe(string(), regex(/^\d{1,10}$/, "expected an oid"), transform(Number)));
/** Of PostgreSQL. */
const MAJOR = word(
  "major",
  pipe(string(), transform((text) => parsePostgresMajor(text, "pg_version"))),
);
const BRANCH = word("name", pipe(string(), transform(parseBranchName)));
/** A timeline by its id has no branch. */
const BRANCH_OR_TIMELINE = word(
  "name",
  pipe(string(), transform((text) => isId(text) ? parseTimelineId(text) : parseBranchName(text))),
);
const TEXT = (placeholder: string) => word(placeholder, string());
/** Microseconds since 2000. */
const TIMESTAMP = word(
  "timestamp",
  pipe(string(), transform((text) => parseTimestamp(text, "none"))),
  formatTimestamp,
);
const SAFEKEEPERS = word(
  "host:port,...|none",
  pipe(
    string(),
    transform((text): readonly HostPort[] => text === "none" ? [] : text.split(",").map(parseHostPort)),
  ),
  (list) => list.length === 0 ? "none" : list.map(formatHostPort).join(","),
);

/** Of a lease: whatever tells it from all others. */
const HOLDER = word("id", pipe(string(), regex(/^[0-9a-z]{1,64}$/, "expected letters and digits")));
/** Of a locale, or an encoding: initdb knows which there are. */
const LOCALE = word("name", pipe(string(), regex(/^[A-Za-z0-9][A-Za-z0-9_.@-]{0,99}$/, "expected a name")));

const SETTINGS = word("settings", pipe(string(), regex(SETTINGS_WORD, "expected settings as one word")));
const SLOTS = word("slots", pipe(string(), regex(SLOTS_WORD, "expected slots as one word")));
const GENERATION = word(
  "generation",
  pipe(string(), regex(DIGITS_PATTERN, "expected a generation"), transform(Number)),
);

// Replies.

function json<const S extends GenericSchema>(schema: S): JsonReply<S> {
  return { kind: "json", schema, columnType: "json" };
}

/**
 * For the operations of 2021: their clients parse the text themselves, and a driver that sees the
 * type json would have done so already.
 */
function jsonText<const S extends GenericSchema>(schema: S): JsonReply<S> {
  return { kind: "json", schema, columnType: "text" };
}

const TAG: BareReply = { kind: "tag" };
const COPY_OUT: BareReply = { kind: "copy_out" };
const COPY_BOTH: BareReply = { kind: "copy_both" };

function operation<const A extends Args, const R extends Reply>(
  name: string,
  access: Access,
  args: A,
  reply: R,
): Operation<A, R> {
  return { name, access, args, reply };
}

/** What is wrong, and what to do about it. */
const DamageSchema = object({ what: string(), hint: string() });

const BranchSchema = object({
  name: string(),
  timeline_id: TimelineIdSchema,
  latest_valid_lsn: LsnSchema,
  /**
   * Where the next record goes: behind a page header, where the last one ended at the end of a
   * page.
   */
  next_lsn: LsnSchema,
  /** null, as the LSN, for a branch that began with its tenant. */
  ancestor_id: nullable(TimelineIdSchema),
  ancestor_lsn: nullable(LsnSchema),
  /** RFC 3339; null: never. */
  expires_at: nullable(string()),
  /** Whether it must not be deleted or restored. */
  is_protected: optional(boolean(), false),
  /** Of all relations as PostgreSQL would say, and on disk. Only `branch_list` tells. */
  logical_size_bytes: optional(nullable(number())),
  physical_size_bytes: optional(nullable(number())),
  /** What is wrong with it although it can be used. */
  damage: optional(DamageSchema),
});

const DamagedBranchSchema = object({
  /** null for a timeline that no branch names. */
  name: nullable(string()),
  /** null when that is not known. */
  timeline_id: nullable(TimelineIdSchema),
  damage: DamageSchema,
});

/** A branch, or the remains of one, that can't be used. */
export type DamagedBranch = InferOutput<typeof DamagedBranchSchema>;

const DeletedTimelineSchema = object({ tenant_id: TenantIdSchema, timeline_id: TimelineIdSchema });

/** A timeline that the page server knows to be deleted. */
export type DeletedTimeline = InferOutput<typeof DeletedTimelineSchema>;

const DamagedTimelineSchema = object({
  tenant_id: TenantIdSchema,
  timeline_id: TimelineIdSchema,
  damage: DamageSchema,
});

/** A timeline that a server can't open, or whose files are damaged. */
export type DamagedTimeline = InferOutput<typeof DamagedTimelineSchema>;

const ScrubStatusSchema = object({
  /** When the last pass over everything ended, RFC 3339; null before the first. */
  last_pass_at: nullable(string()),
  /** What it has found damaged, and has not found sound since. */
  found: array(DamagedTimelineSchema),
});

/** What the check of data at rest has found. */
export type ScrubStatus = InferOutput<typeof ScrubStatusSchema>;

/** {@link ScrubStatus} as it goes over the wire. */
export type ScrubStatusJson = InferInput<typeof ScrubStatusSchema>;

/** A branch as the page server describes it. */
export type BranchInfo = InferOutput<typeof BranchSchema>;

const TenantConfigSchema = object({ gc_horizon_bytes: number(), pitr_interval: string() });

/**
 * How much history a tenant keeps: bytes of WAL, and a duration such as `7d`; the longer of the two
 * counts.
 */
export type TenantConfig = InferOutput<typeof TenantConfigSchema>;

const FoundLsnSchema = object({ lsn: LsnSchema, timeline_id: TimelineIdSchema });

export type FoundLsn = InferOutput<typeof FoundLsnSchema>;

const TenantStatusSchema = object({
  tenant_id: TenantIdSchema,
  /** The major of its PostgreSQL. */
  pg_version: number(),
});

const PageServerStatusSchema = object({
  pid: number(),
  rss_bytes: number(),
  tenants: number(),
  tenant_sizes: array(object({ tenant_id: string(), physical_size_bytes: number() })),
  page_cache_bytes: number(),
  memory_layer_bytes: number(),
  block_cache_bytes: number(),
  free_wal_buffer_bytes: number(),
  timelines: array(object({
    tenant_id: string(),
    timeline_id: string(),
    last_record_lsn: LsnSchema,
    disk_consistent_lsn: LsnSchema,
    /** Where the timeline's WAL comes from; null when from nowhere. */
    wal_receiver: nullable(object({ source: string(), streaming: boolean(), error: nullable(string()) })),
    /** Whether its WAL waits for flushes, how often it has, and for how long in all. */
    held_back: boolean(),
    held_back_times: number(),
    held_back_ms: number(),
    memory_bytes: number(),
    frozen_bytes: number(),
    layer_bytes: number(),
    layer_count: number(),
    wal_bytes: number(),
    /** null when they can't be told. */
    logical_size_bytes: nullable(number()),
    physical_size_bytes: nullable(number()),
  })),
});

/** A page server's report on itself and its open timelines. */
export type PageServerStatus = InferOutput<typeof PageServerStatusSchema>;

/** {@link PageServerStatus} as it goes over the wire. */
export type PageServerStatusJson = InferInput<typeof PageServerStatusSchema>;

/** What a page server runs that does not say so. */
const MAJOR_WHEN_NOT_SAID = 15;

const TimelineStatusSchema = object({
  system_id: pipe(string(), transform((text) => BigInt(text))),
  /** The major of its PostgreSQL. */
  pg_version: optional(number(), MAJOR_WHEN_NOT_SAID),
  /** In bytes. */
  wal_segment_size: number(),
  /** Where the next record goes; everything before it is durable at the page server. */
  wal_position: LsnSchema,
  /** Those that have WAL which may not be at the page server yet, as the last compute has said. */
  safekeepers: array(HostPortSchema),
  /** Whether it is a branch on which the page server has no record of its own. */
  untouched: optional(boolean(), false),
});

/** A timeline as the page server has it. */
export type TimelineStatus = InferOutput<typeof TimelineStatusSchema>;

const BranchSettingsSchema = object({
  /** The timeline that they were set on: this one or an ancestor; null when there are none. */
  timeline_id: nullable(TimelineIdSchema),
  /** As src/protocol/branch_settings.ts packs them. */
  settings: nullable(string()),
});

/** The settings of a branch at an LSN. */
export type BranchSettings = InferOutput<typeof BranchSettingsSchema>;

const TakenSlotsSchema = object({
  /** Whoever has taken them sets them with this. */
  generation: number(),
  /** As src/protocol/branch_slots.ts packs them; null when there are none. */
  slots: nullable(string()),
  /** WAL from here on is kept for them; null when for none. */
  hold_lsn: nullable(LsnSchema),
  /** So much is kept for them at most. */
  hold_max_bytes: number(),
  /** While it is untouched: the slots of the branch that it comes from. They are not its own. */
  parent_slots: nullable(string()),
});

/** The replication slots of a branch, for the compute that goes on with them. */
export type TakenSlots = InferOutput<typeof TakenSlotsSchema>;

const GC_FIGURES = {
  layers_total: number(),
  layers_needed_by_cutoff: number(),
  layers_needed_by_pitr: number(),
  layers_needed_by_branches: number(),
  layers_needed_by_leases: number(),
  layers_removed: number(),
  layers_created: number(),
  versions_removed: number(),
  images_created: number(),
  bytes_removed: number(),
  elapsed_ms: number(),
};

const GarbageReportSchema = object(GC_FIGURES);

const GARBAGE_REPORT: FiguresReply<typeof GarbageReportSchema> = {
  kind: "figures",
  schema: GarbageReportSchema,
  columns: Object.keys(GC_FIGURES),
};

const HistoryPartSchema = object({
  timeline_id: TimelineIdSchema,
  /** Up to where the branch has it: its end, or where the next newer part left it. */
  lsn: LsnSchema,
  /** When the last commit up to there was, RFC 3339; null when there is none. */
  time: nullable(string()),
  /** From where on any of its LSNs can be read, and when the last commit up to there was. */
  kept_from_lsn: LsnSchema,
  kept_from: nullable(string()),
});

/** A timeline that a branch is made of. */
export type HistoryPart = InferOutput<typeof HistoryPartSchema>;

const ChangedRelationSchema = object({
  /** The tablespace's oid, and the relation's file number in it. */
  spc: number(),
  rel: number(),
  /** How many of its pages. */
  pages: number(),
  /**
   * Ranges of blocks that cover them, and may cover others: the first of each, and the one after
   * its last, in turns.
   */
  ranges: array(number()),
});

/** A relation whose pages differ between two points of history. */
export type ChangedRelation = InferOutput<typeof ChangedRelationSchema>;

const LeaseSchema = object({ lsn: LsnSchema, expires_at: string() });

/** The page server's operations. */
export const PAGE_SERVER = {
  status: operation("status", "admin", {}, json(PageServerStatusSchema)),
  scrubStatus: operation("scrub_status", "admin", {}, json(ScrubStatusSchema)),
  tenantList: operation("tenant_list", "admin", {}, jsonText(array(TenantIdSchema))),
  tenantStatus: operation("tenant_status", "read", { tenant: TENANT }, json(TenantStatusSchema)),
  /** Without a major, the newest that the page server finds. */
  tenantCreate: operation(
    "tenant_create",
    "admin",
    {
      tenant: TENANT,
      pg_version: named(MAJOR),
      locale: named(LOCALE),
      encoding: named(LOCALE),
      icu_locale: named(LOCALE),
      data_checksums: flag("data_checksums"),
    },
    TAG,
  ),
  tenantDelete: operation("tenant_delete", "admin", { tenant: TENANT }, TAG),
  /** Timelines that were deleted on purpose: nobody needs their WAL. */
  deletedList: operation("deleted_list", "admin", {}, json(array(DeletedTimelineSchema))),
  tenantConfig: operation(
    "tenant_config",
    "tenant",
    { tenant: TENANT, gc_horizon_bytes: named(BYTES), pitr_interval: named(DURATION) },
    json(TenantConfigSchema),
  ),
  /** Those that can be used. */
  branchList: operation("branch_list", "read", { tenant: TENANT }, jsonText(array(BranchSchema))),
  /** Those that can't. */
  branchDamaged: operation("branch_damaged", "read", { tenant: TENANT }, json(array(DamagedBranchSchema))),
  branchCreate: operation(
    "branch_create",
    "tenant",
    {
      tenant: TENANT,
      name: BRANCH,
      /**
       * A branch, `branch@LSN`, `branch@timestamp` with a time zone, or a timeline id in place of
       * the branch.
       */
      start: TEXT("branch or timeline[@LSN or timestamp]"),
      expires: named(DURATION),
    },
    jsonText(BranchSchema),
  ),
  branchRename: operation(
    "branch_rename",
    "tenant",
    { tenant: TENANT, name: BRANCH, to: { ...BRANCH, placeholder: "new name" } },
    json(BranchSchema),
  ),
  /**
   * Gives the branch's name to a new timeline that begins at `start`. What it was goes on as
   * `keep_as`, or is deleted; `deleted` names the timelines that were.
   */
  branchRestore: operation(
    "branch_restore",
    "tenant",
    {
      tenant: TENANT,
      name: BRANCH,
      start: TEXT("branch or timeline[@LSN or timestamp]"),
      keep_as: named(BRANCH),
    },
    json(object({ branch: BranchSchema, deleted: array(TimelineIdSchema) })),
  ),
  /** Without a duration it never expires. */
  branchSetExpiry: operation(
    "branch_set_expiry",
    "tenant",
    { tenant: TENANT, name: BRANCH, expires: named(DURATION) },
    json(BranchSchema),
  ),
  branchProtect: operation(
    "branch_protect",
    "tenant",
    { tenant: TENANT, name: BRANCH, off: flag("off") },
    json(BranchSchema),
  ),
  /** Answers with the names of the branches that were deleted. */
  branchDelete: operation(
    "branch_delete",
    "tenant",
    { tenant: TENANT, name: BRANCH_OR_TIMELINE, cascade: flag("cascade") },
    json(array(string())),
  ),
  /** Answers with the LSN, and the timeline or ancestor that it belongs to. */
  lsnAt: operation(
    "lsn_at",
    "read",
    { tenant: TENANT, timeline: TIMELINE, timestamp: rest(TIMESTAMP) },
    json(FoundLsnSchema),
  ),
  /** A timeline and those that it comes from, newest first. */
  timelineHistory: operation(
    "timeline_history",
    "read",
    { tenant: TENANT, timeline: TIMELINE },
    json(array(HistoryPartSchema)),
  ),
  /**
   * The relations of a database, by its oid, whose rows may look different at two points of a
   * tenant's history, with the pages that have them. Only main forks.
   */
  changedBlocks: operation(
    "changed_blocks",
    "read",
    {
      tenant: TENANT,
      timeline: TIMELINE,
      lsn: LSN,
      other_timeline: { ...TIMELINE, placeholder: "other timeline" },
      other_lsn: { ...LSN, placeholder: "other LSN" },
      database: OID,
    },
    json(array(ChangedRelationSchema)),
  ),
  timelineStatus: operation(
    "timeline_status",
    "compute",
    { tenant: TENANT, timeline: TIMELINE },
    json(TimelineStatusSchema),
  ),
  /** From where the page server receives a timeline's WAL, if it does. */
  receiverStatus: operation(
    "receiver_status",
    "compute",
    { tenant: TENANT, timeline: TIMELINE },
    json(object({ source: nullable(string()), streaming: boolean(), error: nullable(string()) })),
  ),
  timelineSafekeepers: operation(
    "timeline_safekeepers",
    "compute",
    { tenant: TENANT, timeline: TIMELINE, safekeepers: SAFEKEEPERS },
    TAG,
  ),
  /** A branch's settings as of an LSN, of its end when none is named: its own, or inherited. */
  timelineSettings: operation(
    "timeline_settings",
    "compute",
    { tenant: TENANT, timeline: TIMELINE, lsn: maybe(LSN) },
    json(BranchSettingsSchema),
  ),
  /** From now on a branch has these. */
  timelineSetSettings: operation(
    "timeline_set_settings",
    "compute",
    { tenant: TENANT, timeline: TIMELINE, settings: SETTINGS },
    TAG,
  ),
  /** A branch's replication slots. From now on only the caller can set them. */
  timelineTakeSlots: operation(
    "timeline_take_slots",
    "compute",
    { tenant: TENANT, timeline: TIMELINE },
    json(TakenSlotsSchema),
  ),
  /**
   * From now on a branch has these slots, for which WAL from `hold` on is kept, as far as it is
   * there: from `wal_from` on.
   */
  timelineSetSlots: operation(
    "timeline_set_slots",
    "compute",
    { tenant: TENANT, timeline: TIMELINE, generation: GENERATION, slots: SLOTS, hold: named(LSN) },
    json(object({ wal_from: LsnSchema })),
  ),
  pagestream: operation("pagestream", "compute", { tenant: TENANT, timeline: TIMELINE }, COPY_BOTH),
  basebackup: operation(
    "basebackup",
    "compute",
    { tenant: TENANT, timeline: TIMELINE, lsn: maybe(LSN), wal_from: named(LSN), lazy: flag("lazy") },
    COPY_OUT,
  ),
  computeAttach: operation("compute_attach", "compute", { tenant: TENANT, timeline: TIMELINE }, COPY_BOTH),
  callmemaybe: operation(
    "callmemaybe",
    "safekeeper",
    { tenant: TENANT, timeline: TIMELINE, conninfo: rest(TEXT("connection string")) },
    TAG,
  ),
  leaseLsn: operation(
    "lease_lsn",
    "read",
    { tenant: TENANT, timeline: TIMELINE, lsn: LSN, duration: maybe(DURATION), holder: named(HOLDER) },
    json(LeaseSchema),
  ),
  /** Gives up what a holder has leased before it ends. */
  leaseRelease: operation(
    "lease_release",
    "read",
    { tenant: TENANT, timeline: TIMELINE, lsn: LSN, holder: HOLDER },
    TAG,
  ),
  doGc: operation(
    "do_gc",
    "tenant",
    { tenant: TENANT, timeline: TIMELINE, horizon: maybe({ ...BYTES, placeholder: "horizon" }) },
    GARBAGE_REPORT,
  ),
} as const;

const SafekeeperTimelineSchema = object({
  tenant_id: TenantIdSchema,
  timeline_id: TimelineIdSchema,
  term: number(),
  term_history: array(object({ term: number(), start_lsn: LsnSchema })),
  timeline_start_lsn: LsnSchema,
  flush_lsn: LsnSchema,
  commit_lsn: LsnSchema,
  remote_consistent_lsn: LsnSchema,
  wal_bytes: number(),
});

/** A timeline as one safekeeper has it. */
export type SafekeeperTimelineStatus = InferOutput<typeof SafekeeperTimelineSchema>;

/** {@link SafekeeperTimelineStatus} as it goes over the wire. */
export type SafekeeperTimelineJson = InferInput<typeof SafekeeperTimelineSchema>;

/** The safekeeper's operations. */
export const SAFEKEEPER = {
  /** One timeline, or every one that can be opened when none is named. */
  timelineStatus: operation(
    "timeline_status",
    "read",
    { tenant: maybe(TENANT), timeline: maybe(TIMELINE) },
    json(array(SafekeeperTimelineSchema)),
  ),
  /** Those that can't be opened. */
  timelineDamaged: operation("timeline_damaged", "admin", {}, json(array(DamagedTimelineSchema))),
  scrubStatus: operation("scrub_status", "admin", {}, json(ScrubStatusSchema)),
  timelineDelete: operation("timeline_delete", "tenant", { tenant: TENANT, timeline: TIMELINE }, TAG),
  /** Lowers a term that was driven up. */
  timelineLowerTerm: operation(
    "timeline_lower_term",
    "admin",
    { tenant: TENANT, timeline: TIMELINE, term: TERM },
    TAG,
  ),
  startWalPush: operation("start_wal_push", "compute", {}, COPY_BOTH),
} as const;
