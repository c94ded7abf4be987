import type { TimelineStore } from "../../pagestore/mod.ts";
import type { PgVersion } from "../../postgres/versions/pg_version.ts";
import type { CheckpointTracker } from "../content/checkpoint_tracker.ts";
import type { CommitTimes } from "../content/commit_times.ts";
import type { PageReader } from "../content/page_reader.ts";
import type { RelationForks } from "../content/relation_forks.ts";
import type { SingleValues } from "../content/single_values.ts";
import type { SlruPages } from "../content/slru_pages.ts";

/** What of a timeline the records of its WAL are filed in. */
export interface IngestParts {
  /** The major that writes the WAL. */
  readonly pg: PgVersion;
  readonly store: TimelineStore;
  readonly forks: RelationForks;
  readonly slru: SlruPages;
  readonly values: SingleValues;
  readonly checkpoint: CheckpointTracker;
  readonly commitTimes: CommitTimes;
  readonly reader: PageReader;
}
