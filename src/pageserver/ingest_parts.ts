import type { TimelineStore } from "../pagestore/mod.ts";
import type { CheckpointTracker } from "./checkpoint_tracker.ts";
import type { CommitTimes } from "./commit_times.ts";
import type { PageReader } from "./page_reader.ts";
import type { RelationForks } from "./relation_forks.ts";
import type { SingleValues } from "./single_values.ts";
import type { SlruPages } from "./slru_pages.ts";

/** What of a timeline the records of its WAL are filed in. */
export interface IngestParts {
  readonly store: TimelineStore;
  readonly forks: RelationForks;
  readonly slru: SlruPages;
  readonly values: SingleValues;
  readonly checkpoint: CheckpointTracker;
  readonly commitTimes: CommitTimes;
  readonly reader: PageReader;
}
