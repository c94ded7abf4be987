/**
 * What differs between PostgreSQL's majors, as a value: one for each major, in the files beside this one. A timeline looks its
 * version up once and hands it to whatever reads its files, its WAL or its pages.
 */
import type { RedoFormat } from "../redo/redo_table.ts";

export interface PgVersion extends RedoFormat {
  /** Whether initdb turns data checksums on unless it is told otherwise. */
  readonly dataChecksumsByDefault: boolean;
}
