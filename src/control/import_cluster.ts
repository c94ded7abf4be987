/** Sends the files of a cluster to a page server, which makes a tenant of them. */
import { parse } from "valibot";
import type { ArchiveLocation } from "../common/archive_location.ts";
import { ZenithError } from "../common/errors.ts";
import type { BranchName, TenantId } from "../common/id.ts";
import type { CopyBoth } from "../pgwire/copy_both.ts";
import { BACKUP_LABEL_FILE, BACKUP_MANIFEST_FILE, backupFile } from "../postgres/cluster/backup_files.ts";
import { parseBackupManifest } from "../postgres/cluster/backup_manifest.ts";
import { connectServer, type ServerAddress } from "../protocol/connect.ts";
import { type ImportedCluster, ImportedClusterSchema, PAGE_SERVER } from "../protocol/management.ts";
import { formatCommand } from "../protocol/operation.ts";
import { TAR_BLOCK_BYTES, TAR_END_BYTES, tarPadding, writeTarHeader } from "../protocol/tar.ts";
import { ManifestCheck } from "./manifest_check.ts";
import type { BackupSource } from "./backup_source.ts";

export type { ImportedCluster };

/** An import's result, and what the backup's manifest could be compared with. */
export interface ImportResult extends ImportedCluster {
  readonly verified: "checksums" | "newest" | "sizes" | "none";
}

const VERIFIED_BY = { reader: "checksums", chain: "newest" } as const;

/** A manifest has some 150 bytes for each file. */
const MANIFEST_MAX_BYTES = 1 << 30;

/**
 * @param source has the cluster's files, in any order
 * @param branch the name of its branch
 * @param progress called with the number of bytes sent so far
 * @param archive what the branch follows from then on, on the page server's machine
 * @throws {ZenithError} what is wrong with the files; `already_exists`; `unavailable` when the page
 *   server can't be reached. Nothing is left of the tenant then
 */
export async function importCluster(
  address: ServerAddress,
  tenant: TenantId,
  branch: BranchName,
  source: BackupSource,
  progress: (bytes: number) => void,
  archive?: ArchiveLocation,
): Promise<ImportResult> {
  const client = await connectServer("page server", address, { applicationName: "zenith import" });
  try {
    const copy = await client.copyBoth(
      formatCommand(PAGE_SERVER.tenantImport, { tenant, name: branch, archive }),
    );
    let reply = "";
    const running = copy.run({
      onData(bytes, off, len) {
        reply += new TextDecoder().decode(bytes.subarray(off, off + len));
      },
      onEnd() {},
    });
    const compared = await sendFiles(new TarSender(copy, running), source.files, progress);
    const verified = source.checkedBy === "manifest" ? compared : VERIFIED_BY[source.checkedBy];
    copy.end();
    await running;
    return { ...parse(ImportedClusterSchema, JSON.parse(reply)), verified };
  } finally {
    // Unless all files were sent, the page server drops what it has.
    client.destroy();
  }
}

async function sendFiles(
  tar: TarSender,
  files: BackupSource["files"],
  progress: (bytes: number) => void,
): Promise<ImportResult["verified"]> {
  const check = new ManifestCheck();
  let manifest: Uint8Array | null = null;
  let isBackup = false;
  for await (const { name, size, content } of files) {
    if (name === BACKUP_MANIFEST_FILE) {
      manifest = await readWhole(name, content);
      if (isBackup) check.take(parseBackupManifest(manifest));
      continue;
    }
    // Without a label it is a cluster that was restored, and written since.
    if (name === BACKUP_LABEL_FILE) {
      isBackup = true;
      if (manifest !== null) check.take(parseBackupManifest(manifest));
    }
    const isContent = backupFile(name).kind !== "other";
    const checksum = check.begin(name);
    let length = 0;
    if (isContent) await tar.begin(name, size);
    for await (const bytes of content) {
      checksum.update(bytes);
      length += bytes.length;
      if (isContent) await tar.content(bytes);
      progress(tar.sentBytes);
    }
    check.end(name, length, checksum);
    if (isContent) await tar.end(size);
  }
  const verified = check.finish();
  await tar.finish();
  return verified;
}

async function readWhole(name: string, content: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  let length = 0;
  for await (const bytes of content) {
    length += bytes.length;
    if (length > MANIFEST_MAX_BYTES) throw new ZenithError("corrupt_data", `${name} is too long`);
    parts.push(Uint8Array.from(bytes));
  }
  return Buffer.concat(parts);
}

/** Sends a tar no faster than it is received. */
class TarSender {
  readonly #copy: CopyBoth;
  /** Rejects when the receiver has refused what was sent. */
  readonly #running: Promise<void>;
  readonly #mtime = Math.floor(Date.now() / 1000);
  #sentBytes = 0;

  constructor(copy: CopyBoth, running: Promise<void>) {
    this.#copy = copy;
    this.#running = running;
    running.catch(() => {});
  }

  get sentBytes(): number {
    return this.#sentBytes;
  }

  async begin(name: string, size: number): Promise<void> {
    const header = new Uint8Array(TAR_BLOCK_BYTES);
    writeTarHeader(header, 0, { name, type: "file", size }, this.#mtime);
    await this.content(header);
  }

  async content(bytes: Uint8Array): Promise<void> {
    this.#sentBytes += bytes.length;
    const isFree = this.#copy.send(bytes);
    // What the receiver has refused is its answer.
    if (this.#copy.closed) await this.#running;
    else if (!isFree) await Promise.race([this.#copy.drained(), this.#running]);
  }

  async end(size: number): Promise<void> {
    await this.content(new Uint8Array(tarPadding(size)));
  }

  async finish(): Promise<void> {
    await this.content(new Uint8Array(TAR_END_BYTES));
  }
}
