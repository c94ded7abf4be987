/**
 * Puts the incremental backups of PostgreSQL 17 and later together with the backups that they build
 * on, while they are read. Sources: src/bin/pg_combinebackup/reconstruct.c,
 * src/bin/pg_combinebackup/backup_label.c.
 */
import { closeSync, fstatSync, openSync, readFileSync, readSync, statSync } from "node:fs";
import { basename, join } from "node:path";
import { ioError, systemErrorCode, ZenithError } from "../common/errors.ts";
import { formatLsn } from "../common/lsn.ts";
import { BACKUP_LABEL_FILE, BACKUP_MANIFEST_FILE } from "../postgres/cluster/backup_files.ts";
import { type BackupStart, parseBackupStart } from "../postgres/cluster/backup_label.ts";
import { type BackupManifest, parseBackupManifest } from "../postgres/cluster/backup_manifest.ts";
import {
  blocksOf,
  type IncrementalHeader,
  isIncrementalName,
  MAX_HEADER_BYTES,
  nameWithoutPrefix,
  parseIncrementalHeader,
  withPrefix,
} from "../postgres/cluster/incremental_file.ts";
import { BLCKSZ } from "../postgres/cluster/page_layout.ts";
import { readCluster } from "./backup_directory.ts";
import { ManifestCheck } from "./manifest_check.ts";
import { fileOfBytes, type SourceFile } from "./source_file.ts";

/** How many blocks are read at a time. */
const PIECE_BLOCKS = 32;

const LABEL_FROM = /^INCREMENTAL FROM (?:LSN|TLI): .*\n/gm;

/** A backup of the chain. */
interface Link {
  readonly directory: string;
  readonly manifest: BackupManifest;
}

/**
 * Yields the files of the newest backup as `pg_combinebackup` would write them. Its own files are
 * compared with its manifest; of the others, what is read has to have the sizes that their
 * manifests say.
 *
 * @param directories a full backup, and the incremental ones after it, oldest first
 * @throws {ZenithError} `invalid_argument` when they don't follow each other; `not_found`,
 *   `corrupt_data`, `io`
 */
export async function* readIncremental(directories: readonly string[]): AsyncGenerator<SourceFile> {
  const chain = openChain(directories);
  const [newest, ...older] = [...chain].reverse();
  const check = new ManifestCheck();
  check.take(newest.manifest);
  for await (const file of readCluster(newest.directory)) {
    if (file.name === BACKUP_MANIFEST_FILE) continue;
    const isIncremental = isIncrementalName(basename(file.name));
    const checked = { ...file, content: compared(check, file) };
    if (isIncremental) yield* reconstructed(newest, older, checked);
    else if (file.name === BACKUP_LABEL_FILE) yield withoutFrom(await whole(checked));
    else yield checked;
  }
  check.finish();
}

async function* compared(check: ManifestCheck, { name, content }: SourceFile): AsyncGenerator<Uint8Array> {
  const checksum = check.begin(name);
  let length = 0;
  for await (const bytes of content) {
    checksum.update(bytes);
    length += bytes.length;
    yield bytes;
  }
  check.end(name, length, checksum);
}

async function whole({ content }: Pick<SourceFile, "content">): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  for await (const bytes of content) parts.push(Uint8Array.from(bytes));
  return Buffer.concat(parts);
}

function withoutFrom(label: Uint8Array): SourceFile {
  const text = new TextDecoder().decode(label).replaceAll(LABEL_FROM, "");
  return fileOfBytes(BACKUP_LABEL_FILE, new TextEncoder().encode(text));
}

/** @throws {ZenithError} `invalid_argument`, `not_found`, `corrupt_data` */
function openChain(directories: readonly string[]): Link[] {
  let before: { readonly link: Link; readonly start: BackupStart } | null = null;
  return directories.map((directory) => {
    const label = read(directory, BACKUP_LABEL_FILE);
    const start = parseBackupStart(label, join(directory, BACKUP_LABEL_FILE));
    const link = { directory, manifest: parseBackupManifest(read(directory, BACKUP_MANIFEST_FILE)) };
    if (before === null && start.from !== null) {
      throw wrongOrder(`${directory} is an incremental backup: the full one that it builds on comes first`);
    }
    if (before !== null) checkFollows(before.link, before.start, link, start.from);
    before = { link, start };
    return link;
  });
}

function checkFollows(before: Link, earlier: BackupStart, link: Link, from: BackupStart | null): void {
  if (from === null) throw wrongOrder(`${link.directory} is a full backup: it builds on no other`);
  if (from.lsn !== earlier.lsn || from.tli !== earlier.tli) {
    throw wrongOrder(
      `${link.directory} builds on the backup that starts at ${
        formatLsn(from.lsn)
      } on timeline ${from.tli}; ` +
        `${before.directory} starts at ${formatLsn(earlier.lsn)} on timeline ${earlier.tli}`,
    );
  }
  const [one, other] = [before.manifest.systemId, link.manifest.systemId];
  if (one !== other) {
    throw wrongOrder(`${before.directory} is of system ${one}, ${link.directory} of system ${other}`);
  }
}

function wrongOrder(what: string): ZenithError {
  return new ZenithError("invalid_argument", what, {
    hint: 'name the full backup, and each incremental one after it by "--incremental", oldest first',
  });
}

/** @throws {ZenithError} `not_found`, `io` */
function read(directory: string, name: string): Uint8Array {
  const path = join(directory, name);
  try {
    return readFileSync(path);
  } catch (error) {
    if (systemErrorCode(error) !== "ENOENT") throw ioError("read", path, error);
    throw new ZenithError("not_found", `${directory} is no unpacked backup: it has no ${name}`, {
      hint: "incremental backups are put together from directories; unpack the tars that -Ft has written",
    });
  }
}

/** A file from which blocks are taken. */
interface BlockFile {
  readonly path: string;
  readonly fd: number;
  /** Where block `n` is; undefined when the file has it not. */
  offsetOf(block: number): number | undefined;
}

/** Yields the whole file of which the newest backup has only what has changed. */
async function* reconstructed(
  newest: Link,
  older: readonly Link[],
  file: SourceFile,
): AsyncGenerator<SourceFile> {
  // Read once for its checksum.
  for await (const _ of file.content);
  const name = nameWithoutPrefix(file.name);
  const opened: BlockFile[] = [];
  try {
    const { header, ...latest } = openIncremental(newest, file.name);
    opened.push(latest);
    for (const link of older) {
      const full = openFull(link, name);
      opened.push(full ?? openIncremental(link, withPrefix(name)));
      if (full !== undefined) break;
      if (link === older.at(-1)) {
        throw new ZenithError("corrupt_data", `no backup has all of ${name}`, {
          hint: "a backup that the others build on is missing",
        });
      }
    }
    const blocks = blocksOf(header);
    const content = combined(opened, blocks, header.truncationBlocks);
    yield { name, size: blocks * BLCKSZ, content };
  } finally {
    for (const { fd } of opened) closeSync(fd);
  }
}

/**
 * Takes each block from the newest file that has it. One that none has was never written:
 * PostgreSQL has made the file longer, and crashed or not come to it.
 *
 * @param files newest first
 * @param truncationBlocks blocks from here on come from the newest file alone: the relation was
 *   shorter since
 */
async function* combined(
  files: readonly BlockFile[],
  blocks: number,
  truncationBlocks: number,
): AsyncGenerator<Uint8Array> {
  const [newest] = files;
  for (let first = 0; first < blocks; first += PIECE_BLOCKS) {
    const count = Math.min(PIECE_BLOCKS, blocks - first);
    const piece = new Uint8Array(count * BLCKSZ);
    for (let i = 0; i < count; i++) {
      for (const file of first + i < truncationBlocks ? files : [newest]) {
        const offset = file.offsetOf(first + i);
        if (offset === undefined) continue;
        readExactly(file, piece, i * BLCKSZ, BLCKSZ, offset);
        break;
      }
    }
    yield piece;
  }
}

/** @throws {ZenithError} `io`, `corrupt_data` when the file ends before that */
function readExactly(
  { path, fd }: Omit<BlockFile, "offsetOf">,
  into: Uint8Array,
  off: number,
  len: number,
  at: number,
): void {
  for (let done = 0; done < len;) {
    let count: number;
    try {
      count = readSync(fd, into, off + done, len - done, at + done);
    } catch (error) {
      throw ioError("read", path, error);
    }
    if (count === 0) {
      throw new ZenithError("corrupt_data", `${path} ends at ${at + done}, before its last block`);
    }
    done += count;
  }
}

/** @returns undefined when the backup has no such file, or only what has changed of it */
function openFull(link: Link, name: string): BlockFile | undefined {
  const path = join(link.directory, name);
  if (statSync(path, { throwIfNoEntry: false }) === undefined) return undefined;
  const { fd, size } = openSized(link, name);
  const blocks = Math.floor(size / BLCKSZ);
  return { path, fd, offsetOf: (block) => block < blocks ? block * BLCKSZ : undefined };
}

/** @throws {ZenithError} `corrupt_data`, `io` */
function openIncremental(link: Link, name: string): BlockFile & { readonly header: IncrementalHeader } {
  const path = join(link.directory, name);
  const { fd, size } = openSized(link, name);
  try {
    const head = new Uint8Array(Math.min(size, MAX_HEADER_BYTES));
    readExactly({ path, fd }, head, 0, head.length, 0);
    const header = parseIncrementalHeader(head, size, path);
    const places = new Map(header.blocks.map((block, i) => [block, header.bytes + i * BLCKSZ]));
    return { path, fd, header, offsetOf: (block) => places.get(block) };
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/** @throws {ZenithError} `corrupt_data` when its size is not what the manifest says */
function openSized({ directory, manifest }: Link, name: string): { fd: number; size: number } {
  const path = join(directory, name);
  let fd: number;
  try {
    fd = openSync(path, "r");
  } catch (error) {
    if (systemErrorCode(error) !== "ENOENT") throw ioError("read", path, error);
    throw new ZenithError("corrupt_data", `${directory} has neither ${name} nor the whole file`, {
      hint: "the backups do not belong together, or one is damaged: pg_verifybackup says which",
    });
  }
  const { size } = fstatSync(fd);
  const expected = manifest.files.get(name)?.size;
  if (expected === undefined || expected === size) return { fd, size };
  closeSync(fd);
  throw new ZenithError(
    "corrupt_data",
    `the backup is damaged: ${path} has ${size} bytes, expected ${expected}`,
  );
}
