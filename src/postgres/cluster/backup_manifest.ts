/**
 * `backup_manifest`: the files of a base backup with their checksums, and the WAL that it needs.
 * Source: src/backend/backup/backup_manifest.c, src/common/parse_manifest.c; the format is
 * described in PostgreSQL's documentation, "Backup Manifest Format".
 */
import { createHash } from "node:crypto";
import { array, number, object, optional, pipe, safeParse, string, transform } from "valibot";
import { crc32c } from "../../common/crc32c.ts";
import { ZenithError } from "../../common/errors.ts";
import { formatLsn, type Lsn, parseLsn } from "../../common/lsn.ts";
import { BACKUP_MANIFEST_FILE } from "./backup_files.ts";

/** A manifest's checksum of a file. */
export interface FileChecksum {
  /** NONE, CRC32C, SHA224, SHA256, SHA384 or SHA512. */
  readonly algorithm: string;
  /** Hexadecimal, in lower case. */
  readonly value: string;
}

export interface ManifestFile {
  readonly size: number;
  /** Null when the backup was taken without checksums. */
  readonly checksum: FileChecksum | null;
}

/** A stretch of WAL that a backup needs. */
export interface WalRange {
  readonly tli: number;
  readonly startLsn: Lsn;
  readonly endLsn: Lsn;
}

export interface BackupManifest {
  /** In decimal. Null in manifests of before PostgreSQL 17. */
  readonly systemId: string | null;
  /** By path, relative to the data directory. Names that are not UTF-8 are left out. */
  readonly files: ReadonlyMap<string, ManifestFile>;
  readonly walRanges: readonly WalRange[];
}

const LsnSchema = pipe(string(), transform(parseLsn));
const ManifestSchema = object({
  Files: array(object({
    Path: optional(string()),
    Size: number(),
    "Checksum-Algorithm": optional(string()),
    Checksum: optional(string()),
  })),
  "WAL-Ranges": array(object({ Timeline: number(), "Start-LSN": LsnSchema, "End-LSN": LsnSchema })),
});

/** What comes before the manifest's checksum of itself, on the last line. */
const OWN_CHECKSUM = '"Manifest-Checksum": "';

/** @throws {ZenithError} `corrupt_data` when it is damaged */
export function parseBackupManifest(bytes: Uint8Array): BackupManifest {
  const text = new TextDecoder().decode(bytes);
  const at = text.lastIndexOf(OWN_CHECKSUM);
  if (at < 0) throw damaged("it does not end with its checksum");
  // The checksum is over the bytes, whatever they are as text.
  const lineStart = bytes.lastIndexOf(0x0a, bytes.length - 2) + 1;
  const found = createHash("sha256").update(bytes.subarray(0, lineStart)).digest("hex");
  const stated = text.slice(at + OWN_CHECKSUM.length).split('"', 1)[0];
  if (found !== stated) throw damaged(`its checksum is ${found}, it says ${stated}`);
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw damaged("it is not JSON");
  }
  const parsed = safeParse(ManifestSchema, json);
  if (!parsed.success) throw damaged(parsed.issues[0].message);
  const files = new Map<string, ManifestFile>();
  for (const { Path, Size, "Checksum-Algorithm": algorithm, Checksum } of parsed.output.Files) {
    if (Path === undefined) continue;
    const hasChecksum = algorithm !== undefined && Checksum !== undefined;
    files.set(Path, { size: Size, checksum: hasChecksum ? { algorithm, value: Checksum } : null });
  }
  const walRanges = parsed.output["WAL-Ranges"]
    .map((range) => ({ tli: range.Timeline, startLsn: range["Start-LSN"], endLsn: range["End-LSN"] }));
  // As text, because a JSON number would be rounded.
  const systemId = /^"System-Identifier": (\d{1,20}),$/m.exec(text)?.[1] ?? null;
  return { systemId, files, walRanges };
}

function damaged(what: string): ZenithError {
  return new ZenithError("corrupt_data", `the backup's ${BACKUP_MANIFEST_FILE} is damaged: ${what}`);
}

/** Computes a file's checksum from pieces of its content. */
export interface RunningChecksum {
  update(bytes: Uint8Array): void;
  /** Returns it in hexadecimal, in lower case. */
  digest(): string;
}

/** @throws {ZenithError} `corrupt_data` for an algorithm that PostgreSQL does not have */
export function runningChecksum(algorithm: string): RunningChecksum {
  if (algorithm === "CRC32C") return new RunningCrc();
  if (!/^SHA(?:224|256|384|512)$/.test(algorithm)) {
    throw damaged(`it has checksums of the kind "${algorithm}"`);
  }
  const hash = createHash(algorithm.toLowerCase());
  return { update: (bytes) => void hash.update(bytes), digest: () => hash.digest("hex") };
}

class RunningCrc implements RunningChecksum {
  #crc = 0;

  update(bytes: Uint8Array): void {
    this.#crc = crc32c(bytes, 0, bytes.length, this.#crc);
  }

  digest(): string {
    // pg_crc32c as it lies in memory, so the low byte comes first.
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setUint32(0, this.#crc, true);
    return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  }
}

/** A file for {@link formatBackupManifest}. */
export interface WrittenFile {
  readonly path: string;
  readonly size: number;
  /** Null when the manifest has no checksums. */
  readonly checksum: FileChecksum | null;
}

/** Collects the files of a backup, one after the other, for {@link formatBackupManifest}. */
export class ManifestFiles {
  readonly files: WrittenFile[] = [];
  readonly #algorithm: string | null;
  #file: { readonly path: string; readonly size: number } | null = null;
  #checksum: RunningChecksum | null = null;

  /** @param algorithm as {@link runningChecksum} takes it; null for none */
  constructor(algorithm: string | null) {
    this.#algorithm = algorithm;
  }

  begin(path: string, size: number): void {
    this.#file = { path, size };
    this.#checksum = this.#algorithm === null ? null : runningChecksum(this.#algorithm);
  }

  content(bytes: Uint8Array): void {
    this.#checksum?.update(bytes);
  }

  /** Ends the file that has begun, if any. */
  end(): void {
    if (this.#file === null) return;
    const checksum = this.#checksum === null
      ? null
      : { algorithm: this.#algorithm!, value: this.#checksum.digest() };
    this.files.push({ ...this.#file, checksum });
    this.#file = null;
    this.#checksum = null;
  }
}

/** From this major on, a manifest has the system identifier. */
const VERSION_2_FROM = 17;

/**
 * Returns the content of a manifest.
 *
 * @param modified when the files were written
 */
export function formatBackupManifest(
  cluster: { readonly major: number; readonly systemIdentifier: bigint },
  files: readonly WrittenFile[],
  walRange: WalRange,
  modified: Date,
): string {
  const time = `${modified.toISOString().slice(0, 19).replace("T", " ")} GMT`;
  const lines = files.map(({ path, size, checksum }) => {
    const sum = checksum === null
      ? ""
      : `, "Checksum-Algorithm": "${checksum.algorithm}", "Checksum": "${checksum.value}"`;
    return `{ "Path": ${JSON.stringify(path)}, "Size": ${size}, "Last-Modified": "${time}"${sum} }`;
  });
  const { tli, startLsn, endLsn } = walRange;
  const head = cluster.major < VERSION_2_FROM
    ? '{ "PostgreSQL-Backup-Manifest-Version": 1,\n'
    : `{ "PostgreSQL-Backup-Manifest-Version": 2,\n"System-Identifier": ${cluster.systemIdentifier},\n`;
  const body = `${head}"Files": [\n${lines.join(",\n")}\n],\n"WAL-Ranges": [\n` +
    `{ "Timeline": ${tli}, "Start-LSN": "${formatLsn(startLsn)}", "End-LSN": "${formatLsn(endLsn)}" }\n],\n`;
  return `${body}${OWN_CHECKSUM}${createHash("sha256").update(body).digest("hex")}"}\n`;
}
