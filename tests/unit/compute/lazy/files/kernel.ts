/** Plays the kernel: makes requests as /dev/fuse has them and reads replies. */
import { V15 } from "../../../../../src/postgres/versions/v15.ts";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Lsn } from "../../../../../src/common/lsn.ts";
import { BackingFiles } from "../../../../../src/compute/lazy/files/backing_files.ts";
import { DiskRoom } from "../../../../../src/compute/lazy/files/disk_room.ts";
import { FileData } from "../../../../../src/compute/lazy/files/file_data.ts";
import { FuseSession, type MissedRead } from "../../../../../src/compute/lazy/files/fuse_session.ts";
import { InodeTable } from "../../../../../src/compute/lazy/files/inode_table.ts";
import { OverlaySpace } from "../../../../../src/compute/lazy/files/overlay_space.ts";
import { populate } from "../../../../../src/compute/lazy/files/populate.ts";
import type { SegmentRange } from "../../../../../src/compute/postgres/slot_wal.ts";
import * as fuse from "../../../../../src/compute/lazy/fuse/protocol.ts";
import type { ManifestEntry } from "../../../../../src/protocol/relation_manifest.ts";

export const POSTGRES = { uid: 26, gid: 27 };

export interface Reply {
  /** Positive error number, 0 for success. */
  readonly errno: number;
  readonly body: Uint8Array;
  readonly view: DataView;
}

export interface Entry {
  readonly id: number;
  readonly size: number;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
}

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** A session on a directory of its own, and the kernel that uses it. */
export class Kernel {
  readonly directory = mkdtempSync(join(tmpdir(), "zenith-fuse-"));
  readonly seed = join(this.directory, "seed");
  readonly misses: MissedRead[] = [];
  readonly files = new BackingFiles(this.directory, 3);
  /** What was told about an overlay that holds too much. */
  readonly writtenTooMuch: number[] = [];
  readonly space: OverlaySpace;
  /** Of the overlay's disk: see {@link DiskRoom}. */
  freeShare = 100;
  readonly room: DiskRoom;
  readonly data: FileData;
  readonly inodes = new InodeTable(POSTGRES, (inode) => this.data.remove(inode));
  readonly session: FuseSession;
  readonly buffers = new fuse.FuseBuffers();
  #unique = 2;

  /** @param overlayMaxBytes see {@link OverlaySpace} */
  constructor(overlayMaxBytes = Infinity) {
    this.space = new OverlaySpace(this.files, {
      maxBytes: overlayMaxBytes,
      onWrittenTooMuch: (bytes) => this.writtenTooMuch.push(bytes),
    });
    this.room = new DiskRoom({
      freeShare: () => this.freeShare,
      reclaim: () => this.space.giveUpAll(),
      onChange: () => {},
    });
    this.data = new FileData(this.files, this.space, this.room);
    this.session = new FuseSession({
      inodes: this.inodes,
      data: this.data,
      room: this.room,
      overlayDirectory: this.directory,
      onMiss: (miss) => this.misses.push(miss),
    });
    mkdirSync(this.seed);
  }

  populate(entries: readonly ManifestEntry[], wal: SegmentRange | null = null): void {
    const manifest = { lsn: 8 as Lsn, prev: 0 as Lsn, entries };
    populate(V15, this.inodes, this.seed, manifest, wal, POSTGRES, (id) => this.files.path(id));
  }

  close(): void {
    this.files.closeAll();
    rmSync(this.directory, { recursive: true, force: true });
  }

  /** @param parts numbers are 32-bit words, strings are followed by a zero byte */
  request(opcode: number, node: number, ...parts: (number | string | Uint8Array)[]): number {
    const { request, requestWords } = this.buffers;
    request.fill(0, 0, 4096);
    requestWords[fuse.IN_OPCODE] = opcode;
    requestWords[fuse.IN_UNIQUE] = this.#unique += 2;
    requestWords[fuse.IN_UNIQUE + 1] = 7;
    requestWords[fuse.IN_NODEID] = node;
    requestWords[fuse.IN_UID] = POSTGRES.uid;
    requestWords[fuse.IN_GID] = POSTGRES.gid;
    let at = fuse.IN_HEADER_BYTES;
    for (const part of parts) {
      if (typeof part === "number") {
        new DataView(request.buffer).setUint32(at, part, true);
        at += 4;
      } else {
        const bytes = typeof part === "string" ? encoder.encode(part + "\0") : part;
        request.set(bytes, at);
        at += bytes.length;
      }
    }
    requestWords[0] = at;
    return this.session.handle(this.buffers);
  }

  call(opcode: number, node: number, ...parts: (number | string | Uint8Array)[]): Reply {
    const length = this.request(opcode, node, ...parts);
    if (length <= 0) throw new Error(`request ${opcode} got no reply`);
    const reply = this.buffers.reply.slice(0, length);
    const header = new DataView(reply.buffer);
    if (header.getUint32(0, true) !== length) throw new Error("the reply's length is wrong");
    if (header.getUint32(8, true) !== this.#unique || header.getUint32(12, true) !== 7) {
      throw new Error("the reply is to another request");
    }
    const body = reply.slice(fuse.OUT_HEADER_BYTES);
    return { errno: Math.abs(header.getInt32(4, true)), body, view: new DataView(body.buffer) };
  }

  lookup(directory: number, name: string): Entry | undefined {
    const reply = this.call(fuse.FUSE_LOOKUP, directory, name);
    return reply.view.getUint32(0, true) === 0 ? undefined : entryOf(reply, 40);
  }

  /** Looks up one name after the other. */
  walk(path: string): Entry | undefined {
    let entry: Entry | undefined;
    let directory = 1;
    for (const name of path.split("/")) {
      entry = this.lookup(directory, name);
      if (entry === undefined) return undefined;
      directory = entry.id;
    }
    return entry;
  }

  create(directory: number, name: string): Entry {
    const reply = this.call(fuse.FUSE_CREATE, directory, 0o102, 0o100600, 0o077, 0, name);
    if (reply.errno !== 0) throw new Error(`create ${name}: error ${reply.errno}`);
    return entryOf(reply, 40);
  }

  write(node: number, offset: number, data: Uint8Array): Reply {
    const high = Math.floor(offset / 2 ** 32);
    return this.call(fuse.FUSE_WRITE, node, 0, 0, offset >>> 0, high, data.length, 0, 0, 0, 0, 0, data);
  }

  /** @returns the data, or the miss when it is not here */
  read(node: number, offset: number, size: number): Uint8Array | MissedRead {
    const before = this.misses.length;
    const high = Math.floor(offset / 2 ** 32);
    const length = this.request(fuse.FUSE_READ, node, 0, 0, offset >>> 0, high, size, 0, 0, 0, 0, 0);
    if (length < 0) {
      if (this.misses.length !== before + 1) throw new Error("a deferred read without a miss");
      return this.misses.at(-1)!;
    }
    return this.buffers.reply.slice(fuse.OUT_HEADER_BYTES, length);
  }

  truncate(node: number, size: number): Reply {
    const words = new Uint32Array(22);
    words[0] = fuse.FATTR_SIZE;
    words[4] = size;
    words[5] = Math.floor(size / 2 ** 32);
    return this.call(fuse.FUSE_SETATTR, node, new Uint8Array(words.buffer));
  }

  allocate(node: number, offset: number, length: number, mode = 0): Reply {
    return this.call(fuse.FUSE_FALLOCATE, node, 0, 0, offset, 0, length, 0, mode, 0);
  }

  attributes(node: number): Entry {
    return entryOf(this.call(fuse.FUSE_GETATTR, node, 0, 0, 0, 0), 16, node);
  }

  names(directory: number): string[] {
    const handle = this.call(fuse.FUSE_OPENDIR, directory, 0, 0).view.getUint32(0, true);
    const names: string[] = [];
    for (let offset = 0;;) {
      // Room for a few entries only, so that a directory takes several requests.
      const { body, view } = this.call(
        fuse.FUSE_READDIR,
        directory,
        handle,
        0,
        offset,
        0,
        128,
        0,
        0,
        0,
        0,
        0,
      );
      if (body.length === 0) break;
      for (let at = 0; at < body.length;) {
        offset = view.getUint32(at + 8, true);
        const length = view.getUint32(at + 16, true);
        names.push(decoder.decode(body.subarray(at + 24, at + 24 + length)));
        at += (24 + length + 7) & ~7;
      }
    }
    this.call(fuse.FUSE_RELEASEDIR, directory, handle, 0, 0, 0, 0, 0);
    return names.filter((name) => name !== "." && name !== "..").sort();
  }
}

function entryOf(reply: Reply, attributesAt: number, id = reply.view.getUint32(0, true)): Entry {
  const { view } = reply;
  return {
    id,
    size: view.getUint32(attributesAt + 8, true) + view.getUint32(attributesAt + 12, true) * 2 ** 32,
    mode: view.getUint32(attributesAt + 60, true),
    uid: view.getUint32(attributesAt + 68, true),
    gid: view.getUint32(attributesAt + 72, true),
  };
}
