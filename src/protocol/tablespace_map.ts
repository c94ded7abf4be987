/**
 * The list of tablespaces in a basebackup. It has the name and form that PostgreSQL's own backups
 * use (do_pg_backup_start in xlog.c): each line has an OID, a blank and a location.
 */

export const TABLESPACE_MAP_FILE = "tablespace_map";

/**
 * Encodes locations by OID. A location is absolute, or empty for a tablespace inside the data
 * directory.
 */
export function encodeTablespaceMap(locations: ReadonlyMap<number, string>): Uint8Array {
  const escape = (location: string) => location.replace(/[\n\r\\]/g, "\\$&");
  const lines = [...locations].map(([oid, location]) => `${oid} ${escape(location)}\n`);
  return new TextEncoder().encode(lines.join(""));
}

/** Skips lines that {@link encodeTablespaceMap} can't have written. */
export function decodeTablespaceMap(bytes: Uint8Array): Map<number, string> {
  const text = new TextDecoder().decode(bytes);
  const lines = text.matchAll(/^([1-9]\d{0,9}) ((?:[^\n\\]|\\[^])*)\n/gm);
  return new Map(
    Array.from(lines, ([, oid, location]) => [Number(oid), location!.replace(/\\([^])/g, "$1")]),
  );
}
