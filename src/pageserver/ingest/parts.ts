/** Lists the parts of a timeline that ingest writes to. */
import type { TimelineId } from "../../common/id.ts";
import type { TimelineStore } from "../../pagestore/mod.ts";
import type { ControlFile } from "../../postgres/control_file.ts";
import type { PgVersion } from "../../postgres/versions/pg_version.ts";
import type { WalTimelines } from "../../postgres/wal/wal_timelines.ts";
import type { CheckpointTracker } from "../content/checkpoint_tracker.ts";
import type { CommitTimes } from "../content/commit_times.ts";
import type { PageReader } from "../content/page_reader.ts";
import type { RelationForks } from "../content/relation_forks.ts";
import type { SingleValues } from "../content/single_values.ts";
import type { SlruPages } from "../content/slru_pages.ts";

/** The parts of a timeline that store what its WAL records change. */
export interface IngestParts {
  readonly timelineId: TimelineId;
  /** The major version that writes the WAL. */
  readonly pg: PgVersion;
  /** From the control file at the timeline's end: whether changes of hint bits are logged. */
  readonly hints: Pick<ControlFile, "data_checksum_version" | "wal_log_hints">;
  /** In bytes. */
  readonly walSegmentSize: number;
  /** The timelines of PostgreSQL that the WAL has run through so far. */
  readonly walTimelines: WalTimelines;
  readonly store: TimelineStore;
  readonly forks: RelationForks;
  readonly slru: SlruPages;
  readonly values: SingleValues;
  readonly checkpoint: CheckpointTracker;
  readonly commitTimes: CommitTimes;
  readonly reader: PageReader;
}
