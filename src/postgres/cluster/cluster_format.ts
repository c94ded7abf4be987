/** The names and layouts of a major's files, where majors differ. */
export interface ClusterFormat {
  /** The content of `PG_VERSION` files, as a number. */
  readonly major: number;
  /** PG_CONTROL_VERSION, src/include/catalog/pg_control.h. */
  readonly controlVersion: number;
  /** CATALOG_VERSION_NO, src/include/catalog/catversion.h. No two majors share it. */
  readonly catalogVersion: number;
  /** Where pg_control's checksum is: at the end of the bytes that it covers. */
  readonly controlCrcOffset: number;
  /** sizeof(RelMapFile), src/backend/utils/cache/relmapper.c. */
  readonly relmapSize: number;
  /** Hex digits of a two-phase file's name: 8 of the xid, 16 of the full xid (TwoPhaseFilePath). */
  readonly twophaseNameDigits: 8 | 16;
}

/**
 * The name of the directory in each tablespace, TABLESPACE_VERSION_DIRECTORY in
 * src/include/common/relpath.h.
 */
export function tablespaceVersionDirectory(pg: ClusterFormat): string {
  return `PG_${pg.major}_${pg.catalogVersion}`;
}
