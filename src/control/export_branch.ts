/** Writes a branch out as a plain cluster that stock PostgreSQL starts. */
import { ZenithError } from "../common/errors.ts";
import type { TenantId, TimelineId } from "../common/id.ts";
import type { Lsn } from "../common/lsn.ts";
import { BACKUP_MANIFEST_FILE, backupFile } from "../postgres/cluster/backup_files.ts";
import { formatBackupManifest, ManifestFiles } from "../postgres/cluster/backup_manifest.ts";
import { SIZE_OF_CHECKPOINT } from "../postgres/cluster/checkpoint.ts";
import { CONTROL_FILE_PATH, parseControlFile } from "../postgres/control_file.ts";
import { recordEndLsn } from "../postgres/wal/page_header.ts";
import { SIZE_OF_XLOG_RECORD } from "../postgres/wal/record.ts";
import { connectServer, type ServerAddress } from "../protocol/connect.ts";
import { EXPORT_APPLICATION, PAGE_SERVER } from "../protocol/management.ts";
import { formatCommand } from "../protocol/operation.ts";
import { decodeTablespaceMap, TABLESPACE_MAP_FILE } from "../protocol/tablespace_map.ts";
import { type TarEntry, type TarHandler, TarReader } from "../protocol/tar.ts";
import type { ExportSink } from "./export_sink.ts";

/** What an export has written. */
export interface ExportedCluster {
  readonly pgMajor: number;
  readonly systemIdentifier: bigint;
  /** Where the cluster's WAL goes on. */
  readonly lsn: Lsn;
  readonly files: number;
  readonly bytes: number;
  /** Tablespaces by OID, with the locations that they were created at. */
  readonly tablespaces: ReadonlyMap<number, string>;
}

/** In a record, what precedes main data of up to 255 bytes: XLogRecordDataHeaderShort. */
const SHORT_DATA_HEADER = 2;

/**
 * @param lsn a record boundary that stays readable meanwhile
 * @param settings the configuration files
 * @param progress called with the number of bytes written so far
 * @throws {ZenithError} `disk_full`, `io`; the page server's own errors. Nothing is left then
 */
export async function exportBranch(
  address: ServerAddress,
  { tenant, timeline, lsn }: { readonly tenant: TenantId; readonly timeline: TimelineId; readonly lsn: Lsn },
  settings: ReadonlyMap<string, Uint8Array>,
  sink: ExportSink,
  progress: (bytes: number) => void,
): Promise<ExportedCluster> {
  try {
    const files = new ExportedFiles(sink);
    const tar = new TarReader(files);
    const client = await connectServer("page server", { ...address, tenant }, {
      applicationName: EXPORT_APPLICATION,
    });
    try {
      for await (
        const bytes of client.copyOut(formatCommand(PAGE_SERVER.basebackup, { tenant, timeline, lsn }))
      ) {
        tar.push(bytes);
        progress(files.bytes);
        await sink.ready();
      }
    } finally {
      client.destroy();
    }
    tar.finish();
    for (const [name, bytes] of settings) files.add(name, bytes);
    const exported = files.finish();
    await sink.finish();
    return exported;
  } catch (error) {
    sink.abort();
    throw error;
  }
}

/** Passes files on and makes their manifest. */
class ExportedFiles implements TarHandler {
  readonly #sink: ExportSink;
  readonly #manifest = new ManifestFiles("CRC32C");
  readonly #now = new Date();
  #entry: TarEntry | null = null;
  #isWritten = false;
  /** The content of a file that is looked into. */
  #kept: Uint8Array[] | null = null;
  #control: Uint8Array | null = null;
  #tablespaces: ReadonlyMap<number, string> = new Map();
  #files = 0;
  #bytes = 0;

  constructor(sink: ExportSink) {
    this.#sink = sink;
  }

  /** How much has been written. */
  get bytes(): number {
    return this.#bytes;
  }

  begin(entry: TarEntry): void {
    const name = checkName(entry.name);
    if (entry.type === "directory") {
      this.#sink.directory(name);
      return;
    }
    this.#entry = { ...entry, name };
    const isLookedInto = name === CONTROL_FILE_PATH || name === TABLESPACE_MAP_FILE;
    this.#kept = isLookedInto ? [] : null;
    // A cluster that is not recovered from a backup has no such list.
    this.#isWritten = name !== TABLESPACE_MAP_FILE;
    if (!this.#isWritten) return;
    // A manifest says which WAL is needed, not in which files.
    if (backupFile(name).kind !== "wal") this.#manifest.begin(name, entry.size);
    this.#sink.begin(name, entry.size);
  }

  content(bytes: Uint8Array): void {
    this.#kept?.push(Uint8Array.from(bytes));
    if (!this.#isWritten) return;
    this.#manifest.content(bytes);
    this.#sink.content(bytes);
    this.#bytes += bytes.length;
  }

  end(): void {
    if (this.#entry === null) return;
    const { name } = this.#entry;
    const kept = Buffer.concat(this.#kept ?? []);
    if (name === CONTROL_FILE_PATH) this.#control = kept;
    if (name === TABLESPACE_MAP_FILE) this.#tablespaces = decodeTablespaceMap(kept);
    if (this.#isWritten) {
      this.#sink.end();
      this.#manifest.end();
      this.#files++;
    }
    this.#entry = null;
    this.#kept = null;
  }

  /** Adds a file that did not come in the tar. */
  add(name: string, bytes: Uint8Array): void {
    this.begin({ name, type: "file", size: bytes.length });
    this.content(bytes);
    this.end();
  }

  /** Adds the manifest. @throws {ZenithError} `protocol` when there was no control file */
  finish(): ExportedCluster {
    if (this.#control === null) {
      throw new ZenithError("protocol", `basebackup: there was no ${CONTROL_FILE_PATH}`);
    }
    const { pg, system_identifier, checkPoint, checkPointCopy, xlog_seg_size } = parseControlFile(
      this.#control,
    );
    const length = SIZE_OF_XLOG_RECORD + SHORT_DATA_HEADER + SIZE_OF_CHECKPOINT;
    const endLsn = recordEndLsn(checkPoint, length, xlog_seg_size);
    const cluster = { major: pg.major, systemIdentifier: system_identifier };
    const range = { tli: checkPointCopy.ThisTimeLineID, startLsn: checkPoint, endLsn };
    const manifest = formatBackupManifest(cluster, this.#manifest.files, range, this.#now);
    this.add(BACKUP_MANIFEST_FILE, new TextEncoder().encode(manifest));
    return {
      pgMajor: pg.major,
      systemIdentifier: system_identifier,
      lsn: checkPoint,
      files: this.#files,
      bytes: this.#bytes,
      tablespaces: this.#tablespaces,
    };
  }
}

/** @throws {ZenithError} `protocol` when the name would lead out of the directory */
function checkName(name: string): string {
  const path = name.replace(/\/$/, "");
  const isInside = path.split("/").every((part) => part !== "" && part !== "." && part !== "..");
  if (!isInside || path.includes("\0")) {
    throw new ZenithError("protocol", `basebackup: "${name}" is not a name inside a data directory`);
  }
  return path;
}
