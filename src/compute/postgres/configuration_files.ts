/** Which files of a data directory are the user's configuration, and which a start makes anew. */
import { RELATION_MANIFEST_FILE } from "../../protocol/relation_manifest.ts";

export const STATISTICS = "pg_stat";

/** The user's files are kept, and so are PostgreSQL's statistics. */
export const KEPT: ReadonlySet<string> = new Set(["pg_hba.conf", "pg_ident.conf", STATISTICS]);

/**
 * An unreadable file, which is put where a lazy compute's data directory has links. Backup tools
 * leave links out silently, so that their backups would have no data. On this file they fail, with
 * its name in their message.
 */
export const BACKUP_GUARD = "a_backup_needs_eager_storage_or_root";

/**
 * The files that PostgreSQL puts into a data directory, and the list of a lazy compute's files,
 * which an interrupted start may have left. All other files, such as certificates, are the user's.
 */
export const OURS = new RegExp(
  "^(?:base|global|pg_.*|PG_VERSION|postmaster\\..*|backup_(?:label|manifest).*|tablespace_map.*|.*\\.signal|" +
    `current_logfiles.*|${RELATION_MANIFEST_FILE}|${BACKUP_GUARD})$`,
);

/** Whether a file of this name in a data directory is configuration, which no start removes. */
export function isConfiguration(name: string): boolean {
  return name !== STATISTICS && (KEPT.has(name) || !OURS.test(name));
}
