/**
 * What is PostgreSQL 15's own. Struct offsets that have not moved for many majors stay with the code that reads them;
 * what identifies the major, or is known to differ in its neighbours, is here.
 */

/** The content of a data directory's `PG_VERSION` files, without the newline. */
export const PG_MAJOR = "15";

/** XLOG_PAGE_MAGIC, src/include/access/xlog_internal.h. */
export const XLOG_PAGE_MAGIC = 0xd110;

/** PG_CONTROL_VERSION, src/include/catalog/pg_control.h. */
export const PG_CONTROL_VERSION = 1300;

/** CATALOG_VERSION_NO, src/include/catalog/catversion.h. Part of the name of every tablespace's directory. */
export const CATALOG_VERSION_NO = 202209061;

/** TABLESPACE_VERSION_DIRECTORY, src/include/common/relpath.h. */
export const TABLESPACE_VERSION_DIRECTORY = `PG_${PG_MAJOR}_${CATALOG_VERSION_NO}`;
