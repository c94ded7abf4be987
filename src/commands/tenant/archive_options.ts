/** The options that name a pgBackRest repository, or a WAL archive. */
import { resolve } from "node:path";
import { openArchive } from "../../archive/open_archive.ts";
import { PgBackRestRepository } from "../../archive/pgbackrest/repository.ts";
import type { RepositoryBackup } from "../../archive/pgbackrest/repository_backup.ts";
import { WalArchive } from "../../archive/wal_archive.ts";
import type { ArchiveLocation } from "../../common/archive_location.ts";
import { ZenithError } from "../../common/errors.ts";
import { type CommandOption, optionText, type OptionValues } from "../cli/command.ts";

/** Where pgBackRest itself takes the passphrase from. */
const PASSPHRASE_VARIABLE = "PGBACKREST_REPO1_CIPHER_PASS";

export const ARCHIVE_OPTIONS: readonly CommandOption[] = [
  {
    flags: "--archive <repository>",
    description: `A pgBackRest repository; ${PASSPHRASE_VARIABLE} opens an encrypted one`,
  },
  { flags: "--stanza <name>", description: "Its stanza, if it has several", values: [] },
  { flags: "--backup <label>", description: "The backup in it; the newest when left out", values: [] },
];

/**
 * Opens a backup of a repository.
 *
 * @param path the value of `--archive`
 * @throws {ZenithError} as {@link PgBackRestRepository.openBackup}
 */
export async function openRepository(
  path: string,
  options: OptionValues,
): Promise<{ readonly backup: RepositoryBackup; readonly wal: WalArchive }> {
  const repository = new PgBackRestRepository(resolve(path), {
    stanza: optionText(options, "stanza"),
    passphrase: passphrase() ?? undefined,
  });
  const backup = await repository.openBackup(optionText(options, "backup"));
  if (backup.hasPageErrors) {
    process.stderr.write(
      `zenith: pgBackRest found pages with wrong checksums in backup ${backup.label}: they are taken as they are\n`,
    );
  }
  const { directory, passphrase: walPassphrase } = await repository.wal(backup.systemId);
  return { backup, wal: new WalArchive(directory, walPassphrase) };
}

/** Opens a WAL archive. @throws {ZenithError} as {@link openArchive} */
export function openWal(path: string): Promise<WalArchive> {
  return openArchive(archiveLocation(path, undefined));
}

/** Where an archive is, for whoever opens it later. */
export function archiveLocation(path: string, stanza: string | undefined): ArchiveLocation {
  return { path: resolve(path), stanza: stanza ?? null, passphrase: passphrase() };
}

function passphrase(): string | null {
  return process.env[PASSPHRASE_VARIABLE] || null;
}

/** @throws {ZenithError} `invalid_argument` when an option is given that means nothing here */
export function assertNoOther(options: OptionValues, names: readonly string[], needs: string): void {
  const given = names.find((name) => options[name] !== undefined);
  if (given === undefined) return;
  throw new ZenithError("invalid_argument", `--${given} means nothing without ${needs}`);
}
