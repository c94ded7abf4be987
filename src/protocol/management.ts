/**
 * The management contract: the only list of the page server's and the safekeeper's operations. It
 * leaves out PostgreSQL's own replication commands (START_REPLICATION, IDENTIFY_SYSTEM, …).
 */
import {
  array,
  boolean,
  check,
  type GenericSchema,
  type InferInput,
  type InferOutput,
  nullable,
  number,
  object,
  optional,
  picklist,
  pipe,
  regex,
  string,
  transform,
} from "valibot";
import {
  type ArchiveLocation,
  formatArchiveLocation,
  parseArchiveLocation,
} from "../common/archive_location.ts";
import { formatDuration, parseDuration } from "../common/duration.ts";
import { formatHostPort, type HostPort, parseHostPort } from "../common/host_port.ts";
import { parseBranchName, parseBranchOrTimeline, parseTenantId, parseTimelineId } from "../common/id.ts";
import { formatLsn, parseLsn } from "../common/lsn.ts";
import { parsePostgresMajor } from "../common/postgres_major.ts";
import { formatTimestamp, parseTimestamp } from "../common/timestamp.ts";
import { parseConnInfo } from "../pgwire/conninfo.ts";
import { SETTINGS_WORD } from "./branch_settings.ts";
import { SLOTS_WORD } from "./branch_slots.ts";
import type {
  Access,
  Arg,
  Args,
  BareReply,
  FiguresReply,
  JsonReply,
  Named,
  Operation,
  Reply,
} from "./operation.ts";

/**
 * What a basebackup contains. `complete`: everything. `lazy`: a list of the relation files in place
 * of the files, for a compute that fetches pages when it needs them, and only the used part of the
 * last WAL segment (docs/formats/relation_manifest.md).
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

/** An argument that takes the rest of the command, including blanks. */
function rest<T>(arg: Arg<T>): Arg<T, false> {
  return { ...arg, form: "rest", optional: false };
}

/** An argument whose value a token may restrict. */
function naming<T, Optional extends boolean>(
  arg: Arg<T, Optional>,
  names: (value: T) => Named,
): Arg<T, Optional> {
  return { ...arg, names };
}

function flag(name: string): Arg<boolean, true> {
  const schema = pipe(string(), transform(() => true));
  return { form: "flag", optional: true, placeholder: name, schema, format: () => name };
}

const LsnSchema = pipe(string(), transform(parseLsn));
const TenantIdSchema = pipe(string(), transform(parseTenantId));
const TimelineIdSchema = pipe(string(), transform(parseTimelineId));
const HostPortSchema = pipe(string(), transform(parseHostPort));

/** A number of at most 15 digits, so that it is exact. */
const DIGITS_PATTERN = /^\d{1,15}$/;

const TENANT = naming(word("tenant", TenantIdSchema), (tenant) => ({ tenant }));
const TIMELINE = naming(word("timeline", TimelineIdSchema), (timeline) => ({ timelines: [timeline] }));
const LSN = word("LSN", LsnSchema, formatLsn);
const DURATION = word("duration", pipe(string(), transform(parseDuration)), formatDuration);
const BYTES = word(
  "bytes",
  pipe(string(), regex(DIGITS_PATTERN, "expected a number of bytes"), transform(Number)),
);
const COUNT = word("count", pipe(string(), regex(/^\d{1,6}$/, "expected a count"), transform(Number)));
const TERM = word("term", pipe(string(), regex(DIGITS_PATTERN, "expected a term"), transform(Number)));
const OID = word("oid", pipe(string(), regex(/^\d{1,10}$/, "expected an oid"), transform(Number)));
/** The major of PostgreSQL. */
const MAJOR = word(
  "major",
  pipe(string(), transform((text) => parsePostgresMajor(text, "pg_version"))),
);
const BRANCH = word("name", pipe(string(), transform(parseBranchName)));
/** A branch's name or a timeline's id. A timeline that is named by its id has no branch. */
const BRANCH_OR_TIMELINE = word("name", pipe(string(), transform(parseBranchOrTimeline)));
const ADDRESS = word("host:port", pipe(string(), transform(parseHostPort)), formatHostPort);
const TEXT = (placeholder: string) => word(placeholder, string());
/** Microseconds since 2000. */
const TIMESTAMP = word(
  "timestamp",
  pipe(string(), transform((text) => parseTimestamp(text, "none"))),
  formatTimestamp,
);
const SAFEKEEPERS = naming(
  word(
    "host:port,...|none",
    pipe(
      string(),
      transform((text): readonly HostPort[] => text === "none" ? [] : text.split(",").map(parseHostPort)),
    ),
    (list) => list.length === 0 ? "none" : list.map(formatHostPort).join(","),
  ),
  (safekeepers) => ({ safekeepers }),
);

/** A primary that is followed. It may be on the same machine, where its operator uses a socket. */
const PRIMARY = naming(word("connection string", string()), addressIn);

/** Where WAL comes from. A server connects there, so it has to be a TCP address. */
const WAL_SOURCE = naming(
  word(
    "connection string",
    pipe(
      string(),
      check((text) => !parseConnInfo(text).host.startsWith("/"), "expected a TCP address, not a Unix socket"),
    ),
  ),
  addressIn,
);

/** An archive of WAL on the page server's machine. It may have a passphrase. */
const ARCHIVE = {
  ...word(
    "archive",
    pipe(string(), transform((text) => parseArchiveLocation(decodeText(text)))),
    (location: ArchiveLocation) => Buffer.from(formatArchiveLocation(location)).toString("base64url"),
  ),
  isSecret: true,
};

/** A backup in such a repository. */
const LABEL = word("label", pipe(string(), regex(/^[\w-]{1,64}$/, "expected the label of a backup")));

function decodeText(base64url: string): string {
  return Buffer.from(base64url, "base64url").toString();
}

function addressIn(connInfo: string): Named {
  const { host, port } = parseConnInfo(connInfo);
  return { addresses: [{ host, port }] };
}

/** Identifies a lease among all others. */
const HOLDER = word("id", pipe(string(), regex(/^[0-9a-z]{1,64}$/, "expected letters and digits")));
/** A locale or an encoding. initdb knows which ones exist. */
const LOCALE = word("name", pipe(string(), regex(/^[A-Za-z0-9][A-Za-z0-9_.@-]{0,99}$/, "expected a name")));

/** Settings have passwords in them, such as primary_conninfo's. */
const SETTINGS = {
  ...word("settings", pipe(string(), regex(SETTINGS_WORD, "expected settings as one word"))),
  isSecret: true,
};
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
 * A JSON reply in a text column, for the operations of 2021. Their clients parse the text
 * themselves. A driver that saw the type json would have parsed it already.
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
  { changes = false, namesInStream = false }: { changes?: boolean; namesInStream?: boolean } = {},
): Operation<A, R> {
  return { name, access, args, reply, changes, namesInStream };
}

/** For operations that people have to answer for: they end up in the audit log. */
const CHANGES = { changes: true };

/** What is damaged, and what to do about it. */
const DamageSchema = object({ what: string(), hint: string() });

const BranchSchema = object({
  name: string(),
  timeline_id: TimelineIdSchema,
  latest_valid_lsn: LsnSchema,
  /**
   * Where the next record goes. When the last record ended at the end of a page, this is after the
   * next page's header.
   */
  next_lsn: LsnSchema,
  /** This and the ancestor's LSN are null for a branch that was created with its tenant. */
  ancestor_id: nullable(TimelineIdSchema),
  ancestor_lsn: nullable(LsnSchema),
  /** RFC 3339. Null when it never expires. */
  expires_at: nullable(string()),
  /** A protected branch must not be deleted or restored. */
  is_protected: optional(boolean(), false),
  /** Whether branches of it have to be branches of a mask. */
  requires_mask: optional(boolean(), false),
  /** The end of the mask that its history begins with. Null when it comes from none. */
  masked_from_lsn: optional(nullable(LsnSchema), null),
  /**
   * The size of all relations as PostgreSQL reports it, and the size on disk. Only `branch_list`
   * sends them.
   */
  logical_size_bytes: optional(nullable(number())),
  physical_size_bytes: optional(nullable(number())),
  /** Damage to a branch that can still be used. */
  damage: optional(DamageSchema),
});

const DamagedBranchSchema = object({
  /** Null for a timeline that no branch names. */
  name: nullable(string()),
  /** Null when it is not known. */
  timeline_id: nullable(TimelineIdSchema),
  damage: DamageSchema,
});

/** A branch that can't be used, or the remains of one. */
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
  /** When the last complete pass ended, in RFC 3339. Null before the first one ends. */
  last_pass_at: nullable(string()),
  /** The damage that has been found and that no later pass has found gone. */
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
 * How much history a tenant keeps: bytes of WAL, and a duration such as `7d`. The longer of the two
 * counts.
 */
export type TenantConfig = InferOutput<typeof TenantConfigSchema>;

/** A limit of one tenant, a number or `none`; `default` takes it back. */
export const LimitSchema = pipe(
  string(),
  regex(/^(?:\d{1,15}|none|default)$/, "expected a number, none or default"),
  transform((text) => text === "none" || text === "default" ? text : Number(text)),
);

const LIMIT = word("number|none|default", LimitSchema);

const LimitStateSchema = object({ limit: nullable(number()), used: nullable(number()) });

const TenantLimitsSchema = object({
  connections: LimitStateSchema,
  requests: LimitStateSchema,
  branches: LimitStateSchema,
  computes: LimitStateSchema,
  bytes: LimitStateSchema,
  wal_bytes_per_s: LimitStateSchema,
});

/** What a tenant may take of a server, and what it takes. Null: no limit, or not counted there. */
export type TenantLimitsJson = InferOutput<typeof TenantLimitsSchema>;

/** The same at the page server and at a safekeeper. */
const SHOW_LIMITS = operation("tenant_limits", "read", { tenant: TENANT }, json(TenantLimitsSchema));

const HeldBackSchema = object({
  tenant_id: string(),
  by: picklist(["bytes", "wal_bytes_per_s"]),
  limit: number(),
});

/** A tenant whose WAL a server takes in more slowly than it comes, because of that limit. */
export type HeldBackJson = InferOutput<typeof HeldBackSchema>;

const HELD_BACK = operation("tenants_held_back", "admin", {}, json(array(HeldBackSchema)));

const SET_LIMITS = operation(
  "tenant_set_limits",
  "admin",
  {
    tenant: TENANT,
    connections: named(LIMIT),
    requests: named(LIMIT),
    branches: named(LIMIT),
    computes: named(LIMIT),
    bytes: named(LIMIT),
    wal_bytes_per_s: named(LIMIT),
  },
  json(TenantLimitsSchema),
  CHANGES,
);

const FoundLsnSchema = object({ lsn: LsnSchema, timeline_id: TimelineIdSchema });

export type FoundLsn = InferOutput<typeof FoundLsnSchema>;

const TenantStatusSchema = object({
  tenant_id: TenantIdSchema,
  /** The major of the timeline's PostgreSQL. */
  pg_version: number(),
});

/** The answer of `tenant_import`. */
export const ImportedClusterSchema = object({
  tenant_id: TenantIdSchema,
  timeline_id: TimelineIdSchema,
  pg_version: number(),
  system_id: pipe(string(), transform((text) => BigInt(text))),
  /** Where history begins: at the moment from which on the backup is consistent. */
  history_begins_lsn: LsnSchema,
  latest_valid_lsn: LsnSchema,
  /** The size of the relations that came. */
  imported_bytes: number(),
});

/** What an import has brought. */
export type ImportedCluster = InferOutput<typeof ImportedClusterSchema>;

/** {@link ImportedCluster} as it goes over the wire. */
export type ImportedClusterJson = InferInput<typeof ImportedClusterSchema>;

const FollowedSchema = object({
  tenant_id: TenantIdSchema,
  /** Null when no branch names the timeline. */
  branch: nullable(string()),
  timeline_id: TimelineIdSchema,
  /** The primary's connection string, without its password; or the archive. */
  source: string(),
  /**
   * `opening`, `stopped`, or `failed`: only a person can go on from there. Of a primary also
   * `connecting` and `streaming`, of an archive `reading` and `waiting`.
   */
  state: string(),
  problem: nullable(string()),
  /** Null when it has none. */
  slot: nullable(string()),
  /** The timeline, PostgreSQL's, of the primary's WAL. */
  wal_timeline: number(),
  /** How much of the primary's WAL is missing here. Null while that is not known. */
  lag_bytes: nullable(number()),
  /** How old the newest commit here is, in seconds, while some are missing. */
  lag_s: nullable(number()),
  /** How much of the backup that it began with is not copied. Null while that is not known. */
  uncopied_bytes: nullable(number()),
});

/** A branch that follows a primary. */
export type Followed = InferOutput<typeof FollowedSchema>;

/** {@link Followed} as it goes over the wire. */
export type FollowedJson = InferInput<typeof FollowedSchema>;

const TransferSchema = object({
  /** Counts up from the page server's start. */
  id: number(),
  /** `follow` is the copy of a primary that is followed from then on. */
  kind: picklist(["import", "follow", "export", "base_backup"]),
  tenant_id: TenantIdSchema,
  /** The branch that it makes or reads, by its name then; null for one without a name. */
  branch: nullable(string()),
  /** From where, or whereto, without passwords. */
  peer: string(),
  /** `wal` once all files of an import are there. */
  step: picklist(["files", "wal"]),
  bytes: number(),
  /** How much there will be, as far as that is known; null when it is not. */
  estimated_bytes: nullable(number()),
  started_at: string(),
  /** Null while it runs. */
  ended_at: nullable(string()),
  /** Why it has failed; null when it has not. */
  error: nullable(string()),
});

/** A cluster on its way in or out, or one that lately was. */
export type Transfer = InferOutput<typeof TransferSchema>;

/** {@link Transfer} as it goes over the wire. */
export type TransferJson = InferInput<typeof TransferSchema>;

/** How `zenith export` names itself to the page server. */
export const EXPORT_APPLICATION = "zenith export";

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
    /** The source of the timeline's WAL. Null when there is none. */
    wal_receiver: nullable(object({ source: string(), streaming: boolean(), error: nullable(string()) })),
    /**
     * Whether the timeline's WAL waits for flushes, how often it has waited, and for how long in
     * all.
     */
    held_back: boolean(),
    held_back_times: number(),
    held_back_ms: number(),
    memory_bytes: number(),
    frozen_bytes: number(),
    layer_bytes: number(),
    layer_count: number(),
    wal_bytes: number(),
    /** Null when the sizes can't be determined. */
    logical_size_bytes: nullable(number()),
    physical_size_bytes: nullable(number()),
  })),
});

const ObjectStoreStatusSchema = object({
  url: string(),
  /** Since the page server was started. */
  requests: number(),
  retries: number(),
  sent_bytes: number(),
  received_bytes: number(),
  /** How what is uploaded is encrypted; null when it is not. Older page servers don't say it. */
  encryption: optional(nullable(object({
    key_file: string(),
    /** Null when the file can't be read. */
    key_id: nullable(string()),
    /** Why it can't be read. */
    error: nullable(string()),
  }))),
  /** What layers take on the page server's disk. Older page servers don't say it. */
  disk: optional(object({
    /** Null when there is no limit. */
    limit_bytes: nullable(number()),
    /** Parts of layers that were fetched. */
    fetched_bytes: number(),
    /** Whole layers that the store has, too. */
    uploaded_bytes: number(),
    /** Layers that are only here. */
    pending_bytes: number(),
    /** Whether these fill the limit, so that no more WAL is taken in. */
    is_full: boolean(),
  })),
  tenants: array(object({
    tenant_id: TenantIdSchema,
    /** Null until the page server has taken one. */
    generation: nullable(number()),
    /** What is not in the store yet, as far as it is known. */
    pending_bytes: number(),
    /** Since when something is not, in RFC 3339. Null when all is there. */
    pending_since: nullable(string()),
    /** Whether the tenant belongs to another page server by now. */
    taken_over: boolean(),
    /** Why the last upload has failed. Null when it has not. */
    error: nullable(string()),
    /** Whether it has a data key, so that what is uploaded now is encrypted. */
    is_encrypted: optional(boolean()),
    /** Layers in the store that are not encrypted, in bytes. */
    plain_bytes: optional(number()),
  })),
});

/** What a page server has uploaded to its object store, and what it has not. */
export type ObjectStoreStatus = InferOutput<typeof ObjectStoreStatusSchema>;

/** {@link ObjectStoreStatus} as it goes over the wire. */
export type ObjectStoreStatusJson = InferInput<typeof ObjectStoreStatusSchema>;

const AttachedTenantSchema = object({
  generation: number(),
  timelines: number(),
  /** The bytes of layers, which stay in the store until they are read. */
  bytes: number(),
  /** When the newest object was written, by the store's clock, in RFC 3339. */
  newest_at: string(),
});

const TenantAsOfSchema = object({
  branches: array(object({ name: string(), timeline_id: TimelineIdSchema, end_lsn: LsnSchema })),
  /** When the newest object of it was written, by the store's clock, in RFC 3339. */
  newest_at: string(),
});

/** What the object store had of a tenant at a time. */
export type TenantAsOf = InferOutput<typeof TenantAsOfSchema>;

const TenantPlaceSchema = object({ server: nullable(string()) });

const ListedPlaceSchema = object({
  tenant_id: TenantIdSchema,
  /** The address of the page server where it is, or is to be. */
  server: string(),
  /** The one that is to pass it on first. */
  from: nullable(string()),
  /** The generation in which the server has it. Null until it has. */
  generation: nullable(number()),
  /** Whether that page server has said lately that it lives. */
  is_alive: boolean(),
});

/** Where a tenant is, among page servers that share an object store. */
export type ListedPlace = InferOutput<typeof ListedPlaceSchema>;

/** A tenant that a page server has taken over. */
export type AttachedTenant = InferOutput<typeof AttachedTenantSchema>;

/** A page server's report on itself and on its open timelines. */
export type PageServerStatus = InferOutput<typeof PageServerStatusSchema>;

/** {@link PageServerStatus} as it goes over the wire. */
export type PageServerStatusJson = InferInput<typeof PageServerStatusSchema>;

/** The major that a page server runs if its reply doesn't name one. */
const MAJOR_WHEN_NOT_SAID = 15;

const TimelineStatusSchema = object({
  system_id: pipe(string(), transform((text) => BigInt(text))),
  /** The major of the timeline's PostgreSQL. */
  pg_version: optional(number(), MAJOR_WHEN_NOT_SAID),
  /** In bytes. */
  wal_segment_size: number(),
  /** Where the next record goes. Everything before it is durable on the page server. */
  wal_position: LsnSchema,
  /**
   * The safekeepers that may have WAL which is not on the page server yet, according to the last
   * compute.
   */
  safekeepers: array(HostPortSchema),
  /**
   * Whether the timeline is a branch for which the page server has no WAL record of its own yet,
   * except those that go over to another of PostgreSQL's timelines.
   */
  untouched: optional(boolean(), false),
  /** PostgreSQL's timeline at its end. Null from a page server that knows of none but the first. */
  wal_timeline: optional(nullable(number()), null),
  /** Whether the page server has WAL that was written to the timeline itself. */
  written: optional(boolean(), true),
});

/** A timeline as the page server has it. */
export type TimelineStatus = InferOutput<typeof TimelineStatusSchema>;

const BranchSettingsSchema = object({
  /**
   * The timeline on which the settings were set: this one or an ancestor. Null when there are none.
   */
  timeline_id: nullable(TimelineIdSchema),
  /** Packed by src/protocol/branch_settings.ts. */
  settings: nullable(string()),
});

/** The settings of a branch at an LSN. */
export type BranchSettings = InferOutput<typeof BranchSettingsSchema>;

const TakenSlotsSchema = object({
  /** Whoever takes the slots passes this number when setting them. */
  generation: number(),
  /** Packed by src/protocol/branch_slots.ts. Null when there are none. */
  slots: nullable(string()),
  /** WAL is kept for the slots from here on. Null when none is kept. */
  hold_lsn: nullable(LsnSchema),
  /** From where on the page server has the timeline's WAL. */
  wal_from: LsnSchema,
  /** The most WAL that is kept for the slots. */
  hold_max_bytes: number(),
  /**
   * While the branch is untouched, the slots of the branch that it comes from. They are not its
   * own.
   */
  parent_slots: nullable(string()),
});

/** A branch's replication slots, for the compute that continues with them. */
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
  /**
   * The branch uses this timeline up to here: to the branch's end, or to where the next newer part
   * leaves it.
   */
  lsn: LsnSchema,
  /** When the last commit up to that LSN was made, in RFC 3339. Null when there is none. */
  time: nullable(string()),
  /** The LSN from which on every LSN can be read, and when the last commit up to it was made. */
  kept_from_lsn: LsnSchema,
  kept_from: nullable(string()),
  /**
   * The first moment that can be read: that, or that of the first commit after it. Older page
   * servers don't say it.
   */
  first_moment: optional(nullable(string())),
});

/** One of the timelines that make up a branch's history. */
export type HistoryPart = InferOutput<typeof HistoryPartSchema>;

const ChangedRelationSchema = object({
  /** The OIDs of the tablespace and the database, and the relation's file number there. */
  spc: number(),
  db: number(),
  rel: number(),
  /** How many of the relation's pages differ. */
  pages: number(),
  /**
   * Ranges of blocks that cover those pages, and may cover others. The first block of a range and
   * the block after its last alternate.
   */
  ranges: array(number()),
});

/** A relation whose pages differ between two points of history. */
export type ChangedRelation = InferOutput<typeof ChangedRelationSchema>;

/** A key in the order of keys: kind, a, b, c, d, block (docs/formats/keys.md). */
const KeySchema = array(number());

const LayerSchema = object({
  kind: picklist(["delta", "image"]),
  level: number(),
  /** It has what is above this LSN … */
  start_lsn: LsnSchema,
  /** … and at or below this one. */
  end_lsn: LsnSchema,
  /** Null when it has no keys. */
  first_key: nullable(KeySchema),
  last_key: nullable(KeySchema),
  size_bytes: number(),
  /**
   * How much of it is in the block cache, unpacked: what was read lately. Older page servers don't
   * say it.
   */
  cached_bytes: optional(number(), 0),
  /** What keeps it; null when the next garbage collection may shrink it. */
  needed_by: nullable(picklist(["horizon", "pitr", "branches", "leases"])),
});

const TimelineLayersSchema = object({
  start_lsn: LsnSchema,
  /** Up to here everything is in layers; the rest is in memory. */
  disk_consistent_lsn: LsnSchema,
  last_record_lsn: LsnSchema,
  memory_bytes: number(),
  /** Oldest first. */
  layers: array(LayerSchema),
});

/** What a timeline consists of. */
export type TimelineLayers = InferOutput<typeof TimelineLayersSchema>;

const PageVersionsSchema = object({
  lsn: LsnSchema,
  /** Newest first. */
  versions: array(object({ lsn: LsnSchema, kind: picklist(["record", "image"]), bytes: number() })),
  /** Whether the last version needs no earlier one. */
  complete: boolean(),
});

/** The versions that the read of a page goes through. */
export type PageVersions = InferOutput<typeof PageVersionsSchema>;

const LeaseSchema = object({ lsn: LsnSchema, expires_at: string() });

/** The page server's operations. */
export const PAGE_SERVER = {
  status: operation("status", "admin", {}, json(PageServerStatusSchema)),
  scrubStatus: operation("scrub_status", "admin", {}, json(ScrubStatusSchema)),
  tenantsHeldBack: HELD_BACK,
  /** Null when the page server has no object store. */
  objectStoreStatus: operation("object_store_status", "admin", {}, json(nullable(ObjectStoreStatusSchema))),
  tenantList: operation("tenant_list", "admin", {}, jsonText(array(TenantIdSchema))),
  tenantStatus: operation("tenant_status", "read", { tenant: TENANT }, json(TenantStatusSchema)),
  /** Uses the newest major that the page server finds if none is given. */
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
    CHANGES,
  ),
  /**
   * Makes a tenant from a cluster's files, which the client sends as a tar (docs/import_export.md).
   * The server's only message is the JSON of {@link ImportedCluster}. With an archive, the branch
   * follows that from then on.
   */
  tenantImport: operation(
    "tenant_import",
    "admin",
    { tenant: TENANT, name: BRANCH, archive: named(ARCHIVE) },
    COPY_BOTH,
    CHANGES,
  ),
  /**
   * Makes a tenant from a backup in a pgBackRest repository on the server's machine, and follows
   * the repository's WAL from then on. Pages are read from the backup when they are needed, until
   * all are copied.
   */
  followMount: operation(
    "follow_mount",
    "admin",
    { tenant: TENANT, name: BRANCH, archive: ARCHIVE, backup: LABEL },
    json(ImportedClusterSchema),
    CHANGES,
  ),
  /**
   * Makes a tenant from a base backup of a running primary, and receives its WAL from then on. The
   * limit is the most WAL that the primary keeps for it.
   */
  followStart: operation(
    "follow_start",
    "admin",
    { tenant: TENANT, name: BRANCH, limit: BYTES, conninfo: rest(PRIMARY) },
    json(ImportedClusterSchema),
    CHANGES,
  ),
  followList: operation("follow_list", "admin", {}, json(array(FollowedSchema))),
  /** Imports, exports and base backups: those that run, then those that lately did. */
  transferList: operation("transfer_list", "admin", {}, json(array(TransferSchema))),
  followStop: operation("follow_stop", "tenant", { tenant: TENANT, name: BRANCH }, TAG, CHANGES),
  /** Goes on, with another server of the same system if one is named. */
  followResume: operation(
    "follow_resume",
    "tenant",
    { tenant: TENANT, name: BRANCH, conninfo: maybe(rest(PRIMARY)) },
    TAG,
    CHANGES,
  ),
  /** Answers why the slot could not be dropped; null when there is none left. */
  followRemove: operation(
    "follow_remove",
    "tenant",
    { tenant: TENANT, name: BRANCH },
    json(nullable(string())),
    CHANGES,
  ),
  tenantDelete: operation("tenant_delete", "admin", { tenant: TENANT }, TAG, CHANGES),
  /** Says at which page server a tenant can be used now. Null when that is not known. */
  tenantPlace: operation("tenant_place", "find", { tenant: TENANT }, json(TenantPlaceSchema)),
  /** Lists the tenants of all page servers that share them. */
  placeList: operation("place_list", "admin", {}, json(array(ListedPlaceSchema))),
  /** Moves a tenant to another of those page servers, while computes use it. */
  tenantMove: operation("tenant_move", "admin", { tenant: TENANT, server: ADDRESS }, TAG, CHANGES),
  /** What the object store had of a tenant at a time. Fails when that is not all there any more. */
  tenantAsOf: operation(
    "tenant_as_of",
    "admin",
    { tenant: TENANT, at: TIMESTAMP },
    json(TenantAsOfSchema),
  ),
  /** Takes over a tenant that the object store has, as it is or as it was at a time. */
  tenantAttach: operation(
    "tenant_attach",
    "admin",
    { tenant: TENANT, at: named(TIMESTAMP) },
    json(AttachedTenantSchema),
    CHANGES,
  ),
  /** Uploads a tenant to its end, and removes it from the page server. */
  tenantDetach: operation("tenant_detach", "admin", { tenant: TENANT }, TAG, CHANGES),
  /** Lists the timelines that were deleted on purpose. Nobody needs their WAL. */
  deletedList: operation("deleted_list", "admin", {}, json(array(DeletedTimelineSchema))),
  tenantConfig: operation(
    "tenant_config",
    "tenant",
    { tenant: TENANT, gc_horizon_bytes: named(BYTES), pitr_interval: named(DURATION) },
    json(TenantConfigSchema),
    CHANGES,
  ),
  /** Shows what a tenant may take of this server. */
  tenantLimits: SHOW_LIMITS,
  /** Changes that, for this server. */
  tenantSetLimits: SET_LIMITS,
  /** Lists the branches that can be used. */
  branchList: operation("branch_list", "read", { tenant: TENANT }, jsonText(array(BranchSchema))),
  /**
   * Describes one branch, by its name or its timeline. Fails when there is none, or when it is
   * damaged.
   */
  branchGet: operation(
    "branch_get",
    "read",
    { tenant: TENANT, name: BRANCH_OR_TIMELINE },
    jsonText(BranchSchema),
  ),
  /** Lists the branches that can't be used. */
  branchDamaged: operation("branch_damaged", "read", { tenant: TENANT }, json(array(DamagedBranchSchema))),
  branchCreate: operation(
    "branch_create",
    "tenant",
    {
      tenant: TENANT,
      name: BRANCH,
      /**
       * A branch, `branch@LSN`, or `branch@timestamp` with a time zone. A timeline's id may replace
       * the branch.
       */
      start: TEXT("branch or timeline[@LSN or timestamp]"),
      expires: named(DURATION),
      /**
       * Nothing before the start can be read by way of the branch, nor of those that come from it.
       */
      masked: flag("masked"),
      /** The start may be on a branch that requires a mask. For the operator. */
      unmasked: flag("unmasked"),
    },
    jsonText(BranchSchema),
    CHANGES,
  ),
  branchRename: operation(
    "branch_rename",
    "tenant",
    { tenant: TENANT, name: BRANCH, to: { ...BRANCH, placeholder: "new name" } },
    json(BranchSchema),
    CHANGES,
  ),
  /**
   * Gives the branch's name to a new timeline that begins at `start`. The former timeline becomes
   * the branch `keep_as`, or is deleted; `deleted` names the timelines that were deleted.
   */
  branchRestore: operation(
    "branch_restore",
    "tenant",
    {
      tenant: TENANT,
      name: BRANCH,
      start: TEXT("branch or timeline[@LSN or timestamp]"),
      keep_as: named(BRANCH),
      /** As in `branch_create`. */
      masked: flag("masked"),
      unmasked: flag("unmasked"),
    },
    json(object({ branch: BranchSchema, deleted: array(TimelineIdSchema) })),
    CHANGES,
  ),
  /** Without a duration, the branch never expires. */
  branchSetExpiry: operation(
    "branch_set_expiry",
    "tenant",
    { tenant: TENANT, name: BRANCH, expires: named(DURATION) },
    json(BranchSchema),
    CHANGES,
  ),
  branchProtect: operation(
    "branch_protect",
    "tenant",
    { tenant: TENANT, name: BRANCH, off: flag("off") },
    json(BranchSchema),
    CHANGES,
  ),
  /** From now on, a branch of this branch has to be a branch of its mask. */
  branchRequireMask: operation(
    "branch_require_mask",
    "tenant",
    { tenant: TENANT, name: BRANCH, off: flag("off") },
    json(BranchSchema),
    CHANGES,
  ),
  /**
   * Replies with the names of the branches that were deleted. `stopping` says how many Postgres of
   * each branch the caller is about to end, so that they don't keep it.
   */
  branchDelete: operation(
    "branch_delete",
    "tenant",
    { tenant: TENANT, name: BRANCH_OR_TIMELINE, cascade: flag("cascade"), stopping: named(COUNT) },
    json(array(string())),
    CHANGES,
  ),
  /** Replies with the LSN, and with the timeline or ancestor that it belongs to. */
  lsnAt: operation(
    "lsn_at",
    "read",
    { tenant: TENANT, timeline: TIMELINE, timestamp: rest(TIMESTAMP) },
    json(FoundLsnSchema),
  ),
  /** Lists a timeline and its ancestors, newest first. */
  timelineHistory: operation(
    "timeline_history",
    "read",
    { tenant: TENANT, timeline: TIMELINE },
    json(array(HistoryPartSchema)),
  ),
  /**
   * Lists the relations of a database, given by its OID, whose rows may look different at two
   * points of a tenant's history, with the pages where they may. Covers main forks only. Without a
   * database, lists the relations of all databases.
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
      database: maybe(OID),
    },
    json(array(ChangedRelationSchema)),
  ),
  /** Lists the layers of a timeline, without its ancestors'. */
  timelineLayers: operation(
    "timeline_layers",
    "read",
    { tenant: TENANT, timeline: TIMELINE },
    json(TimelineLayersSchema),
  ),
  /** Lists the versions from which a page is rebuilt, at an LSN or at the timeline's end. */
  pageVersions: operation(
    "page_versions",
    "read",
    {
      tenant: TENANT,
      timeline: TIMELINE,
      spc: { ...OID, placeholder: "tablespace" },
      db: { ...OID, placeholder: "database" },
      rel: { ...OID, placeholder: "relfilenode" },
      fork: word("fork", pipe(string(), regex(/^[0-3]$/, "expected 0 to 3"), transform(Number))),
      block: word("block", pipe(string(), regex(/^\d{1,10}$/, "expected a block number"), transform(Number))),
      lsn: maybe(LSN),
    },
    json(PageVersionsSchema),
  ),
  timelineStatus: operation(
    "timeline_status",
    "compute",
    { tenant: TENANT, timeline: TIMELINE },
    json(TimelineStatusSchema),
  ),
  /** Reports the source from which the page server receives a timeline's WAL, if it does. */
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
    CHANGES,
  ),
  /**
   * Returns a branch's settings, its own or inherited, as of an LSN. Uses the branch's end if no
   * LSN is given.
   */
  timelineSettings: operation(
    "timeline_settings",
    "compute",
    { tenant: TENANT, timeline: TIMELINE, lsn: maybe(LSN) },
    json(BranchSettingsSchema),
  ),
  /** Sets a branch's settings from now on. */
  timelineSetSettings: operation(
    "timeline_set_settings",
    "compute",
    { tenant: TENANT, timeline: TIMELINE, settings: SETTINGS },
    TAG,
    CHANGES,
  ),
  /** Returns a branch's replication slots. From now on only the caller can set them. */
  timelineTakeSlots: operation(
    "timeline_take_slots",
    "compute",
    { tenant: TENANT, timeline: TIMELINE },
    json(TakenSlotsSchema),
  ),
  /**
   * Sets a branch's slots from now on. WAL is kept for them from `hold` on, as far as the page
   * server still has it. It replies with `wal_from`, from where on it does.
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
    {
      tenant: TENANT,
      timeline: TIMELINE,
      lsn: maybe(LSN),
      wal_from: named(LSN),
      lazy: flag("lazy"),
      own_wal: flag("own_wal"),
    },
    COPY_OUT,
  ),
  computeAttach: operation("compute_attach", "compute", { tenant: TENANT, timeline: TIMELINE }, COPY_BOTH),
  callmemaybe: operation(
    "callmemaybe",
    "send",
    { tenant: TENANT, timeline: TIMELINE, conninfo: rest(WAL_SOURCE) },
    TAG,
  ),
  /** WAL from one LSN to another, as the object store has it. */
  walRead: operation(
    "wal_read",
    "send",
    { tenant: TENANT, timeline: TIMELINE, lsn: LSN, until: LSN },
    COPY_OUT,
  ),
  /** The WAL that goes over to the next of PostgreSQL's timelines at an LSN, in hexadecimal. */
  timelineSwitch: operation(
    "timeline_switch",
    "compute",
    { tenant: TENANT, timeline: TIMELINE, lsn: LSN },
    json(object({ lsn: LsnSchema, wal: string() })),
  ),
  /** Where PostgreSQL's timelines from the second on begin in a timeline's WAL. */
  walTimelines: operation(
    "wal_timelines",
    "send",
    { tenant: TENANT, timeline: TIMELINE },
    json(array(LsnSchema)),
  ),
  leaseLsn: operation(
    "lease_lsn",
    "read",
    { tenant: TENANT, timeline: TIMELINE, lsn: LSN, duration: maybe(DURATION), holder: named(HOLDER) },
    json(LeaseSchema),
  ),
  /** Releases a holder's lease before it expires. */
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
    CHANGES,
  ),
} as const;

const StandbySlotSchema = object({
  name: string(),
  restart_lsn: LsnSchema,
  max_bytes: number(),
  active: boolean(),
});

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
  /** Where the WAL begins that it has. Null when it has none, or is of a version before this. */
  wal_start_lsn: optional(nullable(LsnSchema), null),
  /** The slots of its standbys. Safekeepers of before know none. */
  standby_slots: optional(array(StandbySlotSchema), []),
});

/** A timeline as one safekeeper has it. */
export type SafekeeperTimelineStatus = InferOutput<typeof SafekeeperTimelineSchema>;

/** {@link SafekeeperTimelineStatus} as it goes over the wire. */
export type SafekeeperTimelineJson = InferInput<typeof SafekeeperTimelineSchema>;

/** The safekeeper's operations. */
export const SAFEKEEPER = {
  /** Reports one timeline, or every timeline that can be opened if none is named. */
  timelineStatus: operation(
    "timeline_status",
    "read",
    { tenant: maybe(TENANT), timeline: maybe(TIMELINE) },
    json(array(SafekeeperTimelineSchema)),
  ),
  /** Lists the timelines that can't be opened. */
  timelineDamaged: operation("timeline_damaged", "admin", {}, json(array(DamagedTimelineSchema))),
  scrubStatus: operation("scrub_status", "admin", {}, json(ScrubStatusSchema)),
  tenantsHeldBack: HELD_BACK,
  tenantLimits: SHOW_LIMITS,
  tenantSetLimits: SET_LIMITS,
  timelineDelete: operation(
    "timeline_delete",
    "tenant",
    { tenant: TENANT, timeline: TIMELINE },
    TAG,
    CHANGES,
  ),
  /** Lowers a term that was driven up. */
  timelineLowerTerm: operation(
    "timeline_lower_term",
    "admin",
    { tenant: TENANT, timeline: TIMELINE, term: TERM },
    TAG,
    CHANGES,
  ),
  /** Keeps WAL for a standby, from now on. Gives a slot that exists another limit. */
  timelineCreateStandbySlot: operation(
    "timeline_create_standby_slot",
    "tenant",
    { tenant: TENANT, timeline: TIMELINE, name: TEXT("slot"), max_bytes: BYTES },
    TAG,
    CHANGES,
  ),
  timelineDropStandbySlot: operation(
    "timeline_drop_standby_slot",
    "tenant",
    { tenant: TENANT, timeline: TIMELINE, name: TEXT("slot") },
    TAG,
    CHANGES,
  ),
  /** The first message of the stream names the timeline. */
  startWalPush: operation("start_wal_push", "compute", {}, COPY_BOTH, { namesInStream: true }),
} as const;
