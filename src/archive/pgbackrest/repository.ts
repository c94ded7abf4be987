/**
 * A pgBackRest repository in a directory: its stanzas, backups and WAL. Source of the layout:
 * https://pgbackrest.org and src/command/backup/common.c of pgBackRest.
 */
import { lstatSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { boolean, number, object, optional, safeParse, string } from "valibot";
import { errorMessage, ioError, systemErrorCode, ZenithError } from "../../common/errors.ts";
import { parseLsn } from "../../common/lsn.ts";
import { collect, fileBytes } from "../compression/file_bytes.ts";
import { decrypt, isEncrypted } from "./cipher.ts";
import { InfoFile } from "./info_file.ts";
import { RepositoryBackup } from "./repository_backup.ts";

/** A manifest has some 200 bytes for each file. */
const INFO_MAX_BYTES = 1 << 30;

const LABEL = /^\d{8}-\d{6}F(?:_\d{8}-\d{6}[DI])?$/;

export interface RepositoryOptions {
  /** Undefined for the only one. */
  readonly stanza?: string | undefined;
  /** repo-cipher-pass. Undefined for a repository that is not encrypted. */
  readonly passphrase?: string | undefined;
}

/** Where WAL is, and what opens it. */
export interface RepositoryWal {
  readonly directory: string;
  readonly passphrase: string | undefined;
}

const BackupSchema = object({
  "backup-archive-start": optional(string()),
  "backup-archive-stop": optional(string()),
  "backup-error": optional(boolean()),
  "backup-lsn-stop": optional(string()),
  "backup-timestamp-stop": number(),
  "backup-type": string(),
  "option-online": optional(boolean()),
});

export class PgBackRestRepository {
  readonly path: string;
  readonly stanza: string;
  readonly #passphrase: string | undefined;

  /** @throws {ZenithError} `not_found`, `invalid_argument` when there are several stanzas, `io` */
  constructor(path: string, { stanza, passphrase }: RepositoryOptions) {
    this.path = path;
    this.stanza = stanza ?? onlyStanza(path);
    this.#passphrase = passphrase;
    if (lstatSync(join(path, "archive", this.stanza), { throwIfNoEntry: false }) !== undefined) return;
    throw new ZenithError("not_found", `${path} has no stanza ${this.stanza}`, {
      hint: `it has ${stanzas(path).join(", ") || "none"}`,
    });
  }

  /**
   * Reads the manifest of a backup.
   *
   * @param label undefined for the newest
   * @throws {ZenithError} `not_found`; `corrupt_data`; `invalid_argument` when the passphrase is
   *   wrong; `not_implemented` for an offline backup
   */
  async openBackup(label: string | undefined): Promise<RepositoryBackup> {
    const directory = join(this.path, "backup", this.stanza);
    const info = await this.#readInfo(join(directory, "backup.info"), this.#passphrase);
    const labels = [...info.entries("backup:current")].map(([name]) => name).filter((n) => LABEL.test(n));
    const wanted = label ?? labels.sort().at(-1);
    if (wanted === undefined || !labels.includes(wanted)) {
      const what = wanted === undefined ? "has no backup" : `has no backup ${wanted}`;
      throw new ZenithError("not_found", `stanza ${this.stanza} of ${this.path} ${what}`, {
        hint: labels.length === 0 ? "take one by pgbackrest backup" : `it has ${labels.join(", ")}`,
      });
    }
    const parsed = safeParse(BackupSchema, info.value("backup:current", wanted));
    if (!parsed.success) {
      throw new ZenithError("corrupt_data", `${info.where} is damaged: ${parsed.issues[0].message}`);
    }
    const entry = parsed.output;
    const [start, stop, stopLsn] = [
      entry["backup-archive-start"],
      entry["backup-archive-stop"],
      entry["backup-lsn-stop"],
    ];
    if (start === undefined || stop === undefined || stopLsn === undefined) {
      throw new ZenithError("not_implemented", `backup ${wanted} has no WAL: it was taken by --no-online`, {
        hint: "name a backup that was taken while the server ran",
      });
    }
    const manifest = await this.#readInfo(
      join(directory, wanted, "backup.manifest"),
      passphraseIn(info),
    );
    return new RepositoryBackup({
      directory,
      label: wanted,
      manifest,
      passphrase: passphraseIn(manifest),
      archiveStart: start,
      archiveStop: stop,
      stopLsn: parseLsn(stopLsn),
      stoppedAt: new Date(entry["backup-timestamp-stop"] * 1000),
      hasPageErrors: entry["backup-error"] === true,
    });
  }

  /**
   * Returns where the WAL of a cluster is.
   *
   * @param systemId its system identifier; undefined for the newest cluster of the stanza
   * @throws {ZenithError} `not_found` when the archive has no WAL of it; `corrupt_data`, `io`
   */
  async wal(systemId: string | undefined): Promise<RepositoryWal> {
    const directory = join(this.path, "archive", this.stanza);
    const info = await this.#readInfo(join(directory, "archive.info"), this.#passphrase);
    // System identifiers are beyond what a number of JSON can hold.
    const history = [...info.texts("db:history")].map(([id, json]) => ({
      id: Number(id),
      system: /"db-id":(\d+)/.exec(json)?.[1],
      version: /"db-version":"([\d.]+)"/.exec(json)?.[1],
    })).sort((a, b) => a.id - b.id);
    const found = systemId === undefined
      ? history.at(-1)
      : history.findLast(({ system }) => system === systemId);
    if (found?.version === undefined) {
      throw new ZenithError("not_found", `${directory} has no WAL of system ${systemId ?? "at all"}`);
    }
    return { directory: join(directory, `${found.version}-${found.id}`), passphrase: passphraseIn(info) };
  }

  /** Reads an info file, or its copy when it is damaged or was being replaced. */
  async #readInfo(path: string, passphrase: string | undefined): Promise<InfoFile> {
    try {
      return await this.#readOne(path, passphrase);
    } catch (error) {
      if (!(error instanceof ZenithError && (error.kind === "not_found" || error.kind === "corrupt_data"))) {
        throw error;
      }
      return await this.#readOne(`${path}.copy`, passphrase).catch(() => {
        throw error;
      });
    }
  }

  async #readOne(path: string, passphrase: string | undefined): Promise<InfoFile> {
    const bytes = await collect(fileBytes(path), INFO_MAX_BYTES, path);
    if (!isEncrypted(bytes)) return new InfoFile(bytes.toString(), path);
    if (passphrase === undefined) {
      throw new ZenithError("invalid_argument", `${path} is encrypted`, {
        hint: "set PGBACKREST_REPO1_CIPHER_PASS to the repository's repo1-cipher-pass",
      });
    }
    const plain = await collect(decrypt(once(bytes), passphrase, false, path), INFO_MAX_BYTES, path);
    return new InfoFile(plain.toString(), path);
  }
}

/** Whether a directory is a repository. */
export function isRepository(path: string): boolean {
  return lstatSync(join(path, "archive"), { throwIfNoEntry: false })?.isDirectory() === true &&
    stanzas(path).length > 0;
}

function onlyStanza(path: string): string {
  const names = stanzas(path);
  const [only] = names;
  if (names.length === 1 && only !== undefined) return only;
  if (names.length === 0) {
    throw new ZenithError("not_found", `${path} is no pgBackRest repository: it has no archive/<stanza>`);
  }
  throw new ZenithError("invalid_argument", `${path} has several stanzas: ${names.join(", ")}`, {
    hint: "name one by --stanza",
  });
}

function stanzas(path: string): string[] {
  const archive = join(path, "archive");
  try {
    return readdirSync(archive).filter((name) =>
      ["archive.info", "archive.info.copy"].some((file) =>
        lstatSync(join(archive, name, file), { throwIfNoEntry: false }) !== undefined
      )
    ).sort();
  } catch (error) {
    if (systemErrorCode(error) === "ENOENT" || systemErrorCode(error) === "ENOTDIR") {
      throw new ZenithError("not_found", `${path} is no pgBackRest repository: ${errorMessage(error)}`);
    }
    throw ioError("list", archive, error);
  }
}

/** What opens the files that this one describes. */
function passphraseIn(info: InfoFile): string | undefined {
  const value = info.value("cipher", "cipher-pass");
  return typeof value === "string" ? value : undefined;
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}
