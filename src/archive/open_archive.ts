/** Opens the WAL archive at a place: a pgBackRest repository, or a directory of segments. */
import type { ArchiveLocation } from "../common/archive_location.ts";
import { isRepository, PgBackRestRepository } from "./pgbackrest/repository.ts";
import { WalArchive } from "./wal_archive.ts";

/**
 * @param systemId the cluster whose WAL is looked for; undefined when that is not known
 * @throws {ZenithError} `not_found`, `invalid_argument`, `corrupt_data`, `io`
 */
export async function openArchive(location: ArchiveLocation, systemId?: string): Promise<WalArchive> {
  const { path, stanza, passphrase } = location;
  if (stanza === null && !isRepository(path)) return new WalArchive(path);
  const repository = new PgBackRestRepository(path, {
    ...(stanza === null ? {} : { stanza }),
    ...(passphrase === null ? {} : { passphrase }),
  });
  const wal = await repository.wal(systemId);
  return new WalArchive(wal.directory, wal.passphrase);
}
