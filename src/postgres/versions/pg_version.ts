/**
 * What differs between PostgreSQL's majors, as a value: one for each major, in the files beside
 * this one. A timeline looks its version up once and passes it to everything that reads its files,
 * its WAL or its pages.
 */
import type { RedoFormat } from "../redo/redo_table.ts";

export interface PgVersion extends RedoFormat {
  /** Whether initdb turns data checksums on by default. */
  readonly dataChecksumsByDefault: boolean;
}
