/**
 * The list of tablespaces in a basebackup, in the form and under the name that PostgreSQL's own
 * backups have for it (do_pg_backup_start in xlog.c): an OID, a blank and a location in each line.
 */

export const TABLESPACE_MAP_FILE = "tablespace_map";

/**
 * By their OIDs; a location is absolute, or empty for one that is in the data directory.
 */
export function encodeTablespaceMap(locations: ReadonlyMap<number, string>): Uint8Array {
  const escape = (location: string) => location.replace(/[\n\r\\]/g, "\\$&");
  const lines = [...locations].map(([oid, location]) => `${oid} ${escape(location)}\n`);
  return new TextEncoder().encode(lines.join(""));
}

/** Lines that are none of {@link encodeTablespaceMap}'s are passed over. */
export function decodeTablespaceMap(bytes: Uint8Array): Map<number, string> {
  const text = new TextDecoder().decode(bytes);
  const lines = text.matchAll(/^([1-9]\d{0,9}) ((?:[^\n\\]|\\[^])*)\n/gm);
  return new Map(
    Array.from(lines, ([, oid, location]) => [Number(oid), location!.replace(/\\([^])/g, "$1")]),
  );
}
