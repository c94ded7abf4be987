/** Compares the files of a backup with its manifest while they are read. */
import { ZenithError } from "../common/errors.ts";
import { BACKUP_MANIFEST_FILE } from "../postgres/cluster/backup_files.ts";
import {
  type BackupManifest,
  type RunningChecksum,
  runningChecksum,
} from "../postgres/cluster/backup_manifest.ts";

/** The algorithm that pg_basebackup uses unless told otherwise. */
const USUAL_ALGORITHM = "CRC32C";

interface FoundFile {
  readonly size: number;
  readonly algorithm: string;
  readonly value: string;
}

/**
 * The manifest may come before the files or after them. Without it, nothing is found wrong. Files
 * that it does not name are not compared: WAL has checksums of its own, and other files may have
 * been added since.
 */
export class ManifestCheck {
  #manifest: BackupManifest | null = null;
  /** What was read before the manifest came. */
  readonly #early = new Map<string, FoundFile>();
  readonly #compared = new Set<string>();
  #unchecked = 0;

  /** Begins a file. @returns what its content must be passed to */
  begin(name: string): RunningChecksum {
    const algorithm = this.#manifest?.files.get(name)?.checksum?.algorithm ?? USUAL_ALGORITHM;
    return runningChecksum(algorithm);
  }

  /** Ends a file. @throws {ZenithError} `corrupt_data` when it differs from the manifest */
  end(name: string, size: number, checksum: RunningChecksum): void {
    const algorithm = this.#manifest?.files.get(name)?.checksum?.algorithm ?? USUAL_ALGORITHM;
    const found = { size, algorithm, value: checksum.digest() };
    if (this.#manifest === null) this.#early.set(name, found);
    else this.#compare(this.#manifest, name, found);
  }

  /** Takes the manifest. @throws {ZenithError} `corrupt_data` when a file differs from it */
  take(manifest: BackupManifest): void {
    this.#manifest = manifest;
    for (const [name, found] of this.#early) this.#compare(manifest, name, found);
    this.#early.clear();
  }

  /**
   * Ends the backup.
   *
   * @returns what could be compared: `none` without a manifest; `sizes` when it has no checksums
   *   for some files, or has other ones than CRC32C and came after the files
   * @throws {ZenithError} `corrupt_data` when a file is missing
   */
  finish(): "checksums" | "sizes" | "none" {
    if (this.#manifest === null) return "none";
    for (const name of this.#manifest.files.keys()) {
      if (!this.#compared.has(name)) throw wrong(name, "is missing");
    }
    return this.#unchecked === 0 ? "checksums" : "sizes";
  }

  #compare(manifest: BackupManifest, name: string, found: FoundFile): void {
    const expected = manifest.files.get(name);
    if (expected === undefined) return;
    this.#compared.add(name);
    if (expected.size !== found.size) {
      throw wrong(name, `has ${found.size} bytes, expected ${expected.size}`);
    }
    const { checksum } = expected;
    if (checksum === null || checksum.algorithm !== found.algorithm) this.#unchecked++;
    else if (checksum.value !== found.value) {
      throw wrong(name, `has the ${checksum.algorithm} checksum ${found.value}, expected ${checksum.value}`);
    }
  }
}

function wrong(name: string, what: string): ZenithError {
  return new ZenithError("corrupt_data", `the backup is damaged: ${name} ${what}`, {
    hint: `its ${BACKUP_MANIFEST_FILE} says so; take the backup again, or use another one`,
  });
}
