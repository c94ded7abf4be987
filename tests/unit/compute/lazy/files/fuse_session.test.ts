import assert from "node:assert/strict";
import { existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, test } from "node:test";
import {
  EEXIST,
  EINVAL,
  EISDIR,
  ENOENT,
  ENOSPC,
  ENOSYS,
  ENOTEMPTY,
  EOPNOTSUPP,
} from "../../../../../src/compute/lazy/fuse/errno.ts";
import type { Lsn } from "../../../../../src/common/lsn.ts";
import { firstReads } from "../../../../../src/compute/lazy/files/first_reads.ts";
import type { MissedRead } from "../../../../../src/compute/lazy/files/fuse_session.ts";
import type { RemoteFile, RemoteRelation } from "../../../../../src/compute/lazy/files/inode.ts";
import * as fuse from "../../../../../src/compute/lazy/fuse/protocol.ts";
import { Kernel, POSTGRES } from "./kernel.ts";

const BLOCK = 8192;
const UNIT = 4096;

let kernel: Kernel;
beforeEach(() => {
  kernel = new Kernel();
});
afterEach(() => kernel.close());

function filled(bytes: number, value: number): Uint8Array {
  return new Uint8Array(bytes).fill(value);
}

function isMiss(result: Uint8Array | MissedRead): result is MissedRead {
  return !(result instanceof Uint8Array);
}

function data(result: Uint8Array | MissedRead): Uint8Array {
  assert(result instanceof Uint8Array, "the read was handed off");
  return result;
}

function miss(result: Uint8Array | MissedRead): MissedRead {
  assert(isMiss(result), "the read was answered");
  return result;
}

function relation(remote: RemoteFile): RemoteRelation {
  assert("rel" in remote, "it is no relation");
  return remote;
}

/** The table 5/16384 with ten blocks on the page server. */
function table(): number {
  kernel.populate([{ spc: 1663, db: 5, rel: 16384, fork: 0, sourceFork: 0, blocks: 10 }]);
  return kernel.walk("base/5/16384")!.id;
}

describe("the tree", () => {
  test("has the files that came with the basebackup and those that the manifest lists", () => {
    mkdirSync(join(kernel.seed, "global"));
    mkdirSync(join(kernel.seed, "base/5"), { recursive: true });
    writeFileSync(join(kernel.seed, "base/5/PG_VERSION"), "15\n");
    kernel.populate([
      { spc: 1664, db: 0, rel: 1262, fork: 0, sourceFork: 0, blocks: 1 },
      { spc: 1663, db: 5, rel: 16384, fork: 0, sourceFork: 0, blocks: 3 },
      { spc: 1663, db: 5, rel: 16384, fork: 2, sourceFork: 2, blocks: 1 },
      { spc: 16390, db: 5, rel: 16391, fork: 0, sourceFork: 0, blocks: 0 },
    ]);
    assert.deepEqual(kernel.names(1), ["base", "global", "pg_tblspc"]);
    assert.deepEqual(kernel.names(kernel.walk("base/5")!.id), ["16384", "16384_vm", "PG_VERSION"]);
    assert.equal(kernel.walk("base/5/16384")!.size, 3 * BLOCK);
    assert.equal(kernel.walk("pg_tblspc/16390/PG_15_202209061/5/16391")!.size, 0);
    const version = kernel.walk("base/5/PG_VERSION")!;
    assert.equal(new TextDecoder().decode(data(kernel.read(version.id, 0, UNIT))), "15\n");
    assert.deepEqual([version.mode & 0o777, version.uid, version.gid], [0o600, POSTGRES.uid, POSTGRES.gid]);
  });

  test("has a relation of more than 1 GiB as segments, each with its own part of the fork", () => {
    kernel.populate([{ spc: 1663, db: 5, rel: 7, fork: 0, sourceFork: 0, blocks: 131072 * 2 + 1 }]);
    assert.equal(kernel.walk("base/5/7")!.size, 2 ** 30);
    assert.equal(kernel.walk("base/5/7.1")!.size, 2 ** 30);
    const last = kernel.walk("base/5/7.2")!;
    assert.equal(last.size, BLOCK);
    assert.equal(relation(miss(kernel.read(last.id, 0, BLOCK)).remote).firstBlock, 131072 * 2);
    assert.equal(kernel.walk("base/5/7.3"), undefined);
  });

  test("gives an unlogged relation's main fork the pages of its init fork", () => {
    kernel.populate([
      { spc: 1663, db: 5, rel: 7, fork: 3, sourceFork: 3, blocks: 1 },
      { spc: 1663, db: 5, rel: 7, fork: 0, sourceFork: 3, blocks: 1 },
    ]);
    assert.equal(relation(miss(kernel.read(kernel.walk("base/5/7")!.id, 0, BLOCK)).remote).fork, 3);
    assert.equal(kernel.walk("base/5/7_init")!.size, BLOCK);
  });

  test("has the WAL segments that are fetched when they are read, which nobody may write", () => {
    const size = 1 << 20;
    kernel.populate([], { from: (3 * size) as Lsn, to: (5 * size) as Lsn, segmentSize: size, timelines: [] });
    const names = ["000000010000000000000003", "000000010000000000000004"];
    assert.deepEqual([...kernel.inodes.at("wal")!.children!.keys()], names);
    const last = kernel.walk(`wal/${names[1]}`)!;
    assert.deepEqual([last.size, last.mode & 0o777, last.uid], [size, 0o400, POSTGRES.uid]);
    const { remote, offset, bytes } = miss(kernel.read(last.id, 2 * BLOCK, 4 * BLOCK));
    assert.deepEqual([remote, offset, bytes], [{ walStart: 4 * size }, 2 * BLOCK, 4 * BLOCK]);
  });

  test("knows which catalogs a session begins with", () => {
    kernel.populate([
      { spc: 1664, db: 0, rel: 1262, fork: 0, sourceFork: 0, blocks: 1 },
      { spc: 1663, db: 5, rel: 1249, fork: 0, sourceFork: 0, blocks: 5000 },
      { spc: 1663, db: 5, rel: 2610, fork: 0, sourceFork: 0, blocks: 0 },
      { spc: 1663, db: 5, rel: 16384, fork: 0, sourceFork: 0, blocks: 3 },
      { spc: 1663, db: 16385, rel: 1249, fork: 0, sourceFork: 0, blocks: 5 },
    ]);
    assert.deepEqual(
      firstReads(kernel.inodes).map(({ remote, blocks }) => {
        const { db, rel, firstBlock } = relation(remote);
        return [db, rel, firstBlock, blocks];
      }),
      [[0, 1262, 0, 1], [5, 1249, 0, 64]],
    );
  });

  test("tells the kernel that a missing name may be remembered as missing", () => {
    const reply = kernel.call(fuse.FUSE_LOOKUP, 1, "nothing");
    assert.equal(reply.errno, 0);
    assert.equal(reply.view.getUint32(0, true), 0);
    assert(reply.view.getUint32(16, true) > 0);
  });

  test("creates, renames and removes names", () => {
    const file = kernel.create(1, "a");
    assert.deepEqual([file.mode & 0o777, file.uid, file.gid], [0o600, POSTGRES.uid, POSTGRES.gid]);
    kernel.write(file.id, 0, filled(100, 1));
    kernel.create(1, "b");
    assert.equal(kernel.call(fuse.FUSE_RENAME, 1, 1, 0, "a", "b").errno, 0);
    assert.deepEqual(kernel.names(1), ["b"]);
    assert.equal(kernel.lookup(1, "b")!.id, file.id);
    assert.equal(kernel.call(fuse.FUSE_UNLINK, 1, "b").errno, 0);
    assert.deepEqual(kernel.names(1), []);
    assert.equal(kernel.call(fuse.FUSE_UNLINK, 1, "b").errno, ENOENT);
  });

  test("has directories and links", () => {
    const directory = kernel.call(fuse.FUSE_MKDIR, 1, 0o700, 0o077, "d").view.getUint32(0, true);
    kernel.create(directory, "f");
    assert.equal(kernel.call(fuse.FUSE_RMDIR, 1, "d").errno, ENOTEMPTY);
    assert.equal(kernel.call(fuse.FUSE_UNLINK, 1, "d").errno, EISDIR);
    assert.equal(kernel.call(fuse.FUSE_MKDIR, 1, 0o700, 0o077, "d").errno, EEXIST);
    kernel.call(fuse.FUSE_UNLINK, directory, "f");
    assert.equal(kernel.call(fuse.FUSE_RMDIR, 1, "d").errno, 0);
    const link = kernel.call(fuse.FUSE_SYMLINK, 1, "link", "/some/where").view.getUint32(0, true);
    assert.equal(new TextDecoder().decode(kernel.call(fuse.FUSE_READLINK, link).body), "/some/where");
  });

  test("lists a directory of any size", () => {
    const names = Array.from({ length: 100 }, (_, i) => `file_${i}`).sort();
    for (const name of names) kernel.create(1, name);
    assert.deepEqual(kernel.names(1), names);
  });

  test("makes a file longer by fallocate: zeros, also where truncation has cut pages off", () => {
    const file = kernel.create(1, "t");
    kernel.write(file.id, 0, filled(BLOCK, 5));
    assert.equal(kernel.allocate(file.id, BLOCK, 3 * BLOCK).errno, 0);
    assert.equal(kernel.attributes(file.id).size, 4 * BLOCK);
    assert.deepEqual(data(kernel.read(file.id, 3 * BLOCK, BLOCK)), filled(BLOCK, 0));
    assert.deepEqual(data(kernel.read(file.id, 0, BLOCK)), filled(BLOCK, 5));
    kernel.truncate(file.id, 0);
    assert.equal(kernel.allocate(file.id, 0, 2 * BLOCK).errno, 0);
    assert.deepEqual(data(kernel.read(file.id, 0, BLOCK)), filled(BLOCK, 0));
  });

  test("does not make a file shorter by fallocate, or punch holes", () => {
    const file = kernel.create(1, "t");
    kernel.write(file.id, 0, filled(2 * BLOCK, 5));
    assert.equal(kernel.allocate(file.id, 0, BLOCK).errno, 0);
    assert.equal(kernel.attributes(file.id).size, 2 * BLOCK);
    assert.equal(kernel.allocate(file.id, 0, BLOCK, 3).errno, EOPNOTSUPP);
    assert.deepEqual(data(kernel.read(file.id, 0, BLOCK)), filled(BLOCK, 5));
  });

  test("refuses to make a file longer by fallocate when the disk is low", () => {
    const file = kernel.create(1, "t");
    kernel.freeShare = 0.5;
    kernel.room.check();
    assert.equal(kernel.allocate(file.id, 0, BLOCK).errno, ENOSPC);
    assert.equal(kernel.attributes(file.id).size, 0);
    kernel.freeShare = 100;
    assert.equal(kernel.allocate(file.id, 0, BLOCK).errno, 0);
  });

  test("answers what PostgreSQL never asks for with ENOSYS", () => {
    const FUSE_GETXATTR = 22;
    const FUSE_LINK = 13;
    assert.equal(kernel.call(FUSE_GETXATTR, 1, 0, 0, "security.capability").errno, ENOSYS);
    assert.equal(kernel.call(FUSE_LINK, 1, 1, 0, "x").errno, ENOSYS);
  });

  test("survives requests about inodes that are gone", () => {
    assert.equal(kernel.call(fuse.FUSE_GETATTR, 4711, 0, 0, 0, 0).errno, ENOENT);
    assert.equal(kernel.call(fuse.FUSE_OPEN, 4711, 0, 0).errno, ENOENT);
    assert.equal(kernel.request(fuse.FUSE_FORGET, 4711, 1, 0), 0);
  });
});

describe("an unlinked file", () => {
  test("keeps its data until the kernel forgets it, then gives the disk space back", () => {
    const file = kernel.create(1, "t");
    kernel.write(file.id, 0, filled(BLOCK, 5));
    kernel.call(fuse.FUSE_UNLINK, 1, "t");
    assert.deepEqual(data(kernel.read(file.id, 0, BLOCK)), filled(BLOCK, 5));
    kernel.request(fuse.FUSE_FORGET, file.id, 1, 0);
    assert.equal(existsSync(kernel.files.path(file.id)), false);
  });

  test("is not mixed up with a new one of the same name", () => {
    const old = kernel.create(1, "t");
    kernel.write(old.id, 0, filled(BLOCK, 1));
    kernel.call(fuse.FUSE_UNLINK, 1, "t");
    const fresh = kernel.create(1, "t");
    assert.notEqual(fresh.id, old.id);
    assert.equal(data(kernel.read(fresh.id, 0, BLOCK)).length, 0);
    kernel.write(fresh.id, 0, filled(BLOCK, 2));
    assert.deepEqual(data(kernel.read(old.id, 0, BLOCK)), filled(BLOCK, 1));
  });

  test("drops a page that was fetched for it meanwhile", () => {
    const id = table();
    kernel.read(id, 0, BLOCK);
    const directory = kernel.walk("base/5")!.id;
    kernel.call(fuse.FUSE_UNLINK, directory, "16384");
    kernel.request(fuse.FUSE_FORGET, id, 1, 0);
    assert.equal(kernel.inodes.find(id), undefined);
    assert.deepEqual(readdirSync(kernel.directory), ["seed"]);
  });
});

describe("a relation file", () => {
  test("has its untouched pages fetched, exactly those that were asked for", () => {
    const id = table();
    const { remote, inode, offset, bytes, missing, overlay } = miss(kernel.read(id, 3 * BLOCK, 2 * BLOCK));
    assert.deepEqual({ ...remote }, { spc: 1663, db: 5, rel: 16384, fork: 0, firstBlock: 0 });
    assert.deepEqual({ inode, offset, bytes, missing, overlay }, {
      inode: id,
      offset: 3 * BLOCK,
      bytes: 2 * BLOCK,
      missing: [6, 10],
      overlay: undefined,
    });
  });

  test("says of a read whether a part of it was read before", () => {
    const id = table();
    const isRepeated = (block: number, blocks: number) =>
      miss(kernel.read(id, block * BLOCK, blocks * BLOCK)).isRepeated;
    assert.equal(isRepeated(3, 2), false);
    assert.equal(isRepeated(5, 2), false);
    assert.equal(isRepeated(4, 1), true);
    assert.equal(isRepeated(6, 4), true);
    // A block that was kept meanwhile is not read from afar again.
    kernel.data.keep(kernel.inodes.get(id), 9, new Uint8Array(BLOCK), 0);
    assert.equal(isRepeated(8, 2), true);
    kernel.truncate(id, 8 * BLOCK);
    kernel.truncate(id, 10 * BLOCK);
    assert.equal(isRepeated(0, 3), false);
  });

  test("does not have more fetched than there is", () => {
    const id = table();
    const read = miss(kernel.read(id, 9 * BLOCK, 1 << 20));
    assert.deepEqual([read.bytes, ...read.missing], [BLOCK, 18, 20]);
    assert.equal(data(kernel.read(id, 10 * BLOCK, BLOCK)).length, 0);
  });

  test("has a page that was kept at hand for the next reader", () => {
    const id = table();
    kernel.read(id, 2 * BLOCK, BLOCK);
    kernel.data.keep(kernel.inodes.get(id), 2, filled(BLOCK, 9), 0);
    assert.deepEqual(data(kernel.read(id, 2 * BLOCK, BLOCK)), filled(BLOCK, 9));
  });

  test("never reads from the page server again what was written", () => {
    const id = table();
    kernel.write(id, 2 * BLOCK, filled(BLOCK, 1));
    assert.deepEqual(data(kernel.read(id, 2 * BLOCK, BLOCK)), filled(BLOCK, 1));
  });

  test("keeps what was written when an older version of the page arrives after it", () => {
    const id = table();
    miss(kernel.read(id, 2 * BLOCK, BLOCK));
    kernel.write(id, 2 * BLOCK + UNIT, filled(UNIT, 1));
    kernel.data.keep(kernel.inodes.get(id), 2, filled(BLOCK, 9), 0);
    const page = data(kernel.read(id, 2 * BLOCK, BLOCK));
    assert.deepEqual(page.subarray(0, UNIT), filled(UNIT, 9));
    assert.deepEqual(page.subarray(UNIT), filled(UNIT, 1));
  });

  test("asks for the missing half of a page when the other half has been written", () => {
    const id = table();
    kernel.write(id, 4 * BLOCK, filled(UNIT, 1));
    kernel.write(id, 6 * BLOCK, filled(2 * BLOCK, 2));
    const read = miss(kernel.read(id, 4 * BLOCK, 5 * BLOCK));
    assert.deepEqual(read.missing, [9, 12, 16, 18]);
    assert.deepEqual(read.overlay!.subarray(0, UNIT), filled(UNIT, 1));
    assert.deepEqual(read.overlay!.subarray(2 * BLOCK, 4 * BLOCK), filled(2 * BLOCK, 2));
  });

  test("reads zeros behind its old end after it has been cut and has grown again", () => {
    const id = table();
    kernel.data.keep(kernel.inodes.get(id), 5, filled(BLOCK, 9), 0);
    kernel.write(id, 6 * BLOCK, filled(BLOCK, 8));
    assert.equal(kernel.truncate(id, 4 * BLOCK).errno, 0);
    assert.equal(kernel.attributes(id).size, 4 * BLOCK);
    kernel.write(id, 8 * BLOCK, filled(BLOCK, 7));
    assert.deepEqual(data(kernel.read(id, 4 * BLOCK, 4 * BLOCK)), filled(4 * BLOCK, 0));
    assert.deepEqual(data(kernel.read(id, 8 * BLOCK, BLOCK)), filled(BLOCK, 7));
    assert.deepEqual(miss(kernel.read(id, 3 * BLOCK, 2 * BLOCK)).missing, [6, 8]);
  });

  test("ignores a page that arrives after it was cut off", () => {
    const id = table();
    miss(kernel.read(id, 5 * BLOCK, BLOCK));
    kernel.truncate(id, 5 * BLOCK);
    kernel.truncate(id, 10 * BLOCK);
    kernel.data.keep(kernel.inodes.get(id), 5, filled(BLOCK, 9), 0);
    assert.deepEqual(data(kernel.read(id, 5 * BLOCK, BLOCK)), filled(BLOCK, 0));
  });

  test("refuses to be cut inside a block that may be the page server's", () => {
    assert.equal(kernel.truncate(table(), 4 * BLOCK + 100).errno, EINVAL);
  });

  test("ends the compute rather than write into a page that was never read", () => {
    const id = table();
    assert.throws(() => kernel.write(id, 100, filled(100, 1)), /never read/);
    assert.throws(() => kernel.write(id, 0, filled(100, 1)), /never read/);
  });

  test("grows by what is written behind its end", () => {
    const id = table();
    kernel.write(id, 12 * BLOCK, filled(BLOCK, 3));
    assert.equal(kernel.attributes(id).size, 13 * BLOCK);
    assert.deepEqual(data(kernel.read(id, 10 * BLOCK, 2 * BLOCK)), filled(2 * BLOCK, 0));
  });

  test("takes its pages along when it is renamed", () => {
    const id = table();
    const directory = kernel.walk("base/5")!.id;
    kernel.call(fuse.FUSE_RENAME, directory, 1, 0, "16384", "elsewhere");
    const { remote } = miss(kernel.read(kernel.lookup(1, "elsewhere")!.id, 0, BLOCK));
    assert.equal(relation(remote).rel, 16384);
    assert.equal(kernel.lookup(1, "elsewhere")!.id, id);
  });
});

describe("on a disk that is full", () => {
  const ENTER = filled(1 << 20, 1);

  /** What write(2) asks for first, by its open file. */
  function askToWrite(id: number): number {
    return kernel.call(fuse.FUSE_GETATTR, id, fuse.FUSE_GETATTR_FH, 0, 0, 0).errno;
  }

  test("Postgres is refused to write and to make files, until there is room again", () => {
    const id = table();
    kernel.freeShare = 0.9;
    assert.equal(askToWrite(id), 0);
    // What was accepted before is taken, and the disk looked at.
    kernel.write(id, 20 * BLOCK, ENTER);
    assert.equal(askToWrite(id), ENOSPC);
    assert.equal(kernel.call(fuse.FUSE_CREATE, 1, 0o102, 0o100600, 0o077, 0, "new").errno, ENOSPC);
    assert.equal(kernel.attributes(id).id, id);
    assert.equal(kernel.truncate(id, 20 * BLOCK).errno, 0);
    kernel.freeShare = 1.1;
    assert.equal(askToWrite(id), ENOSPC);
    kernel.freeShare = 1.3;
    assert.equal(askToWrite(id), 0);
    kernel.create(1, "new");
  });

  test("files that do not grow are written all the same", () => {
    mkdirSync(join(kernel.seed, "global"));
    writeFileSync(join(kernel.seed, "global/pg_control"), filled(BLOCK, 1));
    const id = table();
    kernel.freeShare = 0.9;
    kernel.write(id, 0, ENTER);
    assert.equal(askToWrite(id), ENOSPC);
    assert.equal(askToWrite(kernel.walk("global/pg_control")!.id), 0);
  });

  test("fetched pages are given up first, and none are kept", () => {
    const id = table();
    kernel.data.keep(kernel.inodes.get(id), 3, filled(BLOCK, 9), 0);
    kernel.freeShare = 0.9;
    kernel.write(id, 20 * BLOCK, ENTER);
    assert(isMiss(kernel.read(id, 3 * BLOCK, BLOCK)));
    kernel.data.keep(kernel.inodes.get(id), 3, filled(BLOCK, 9), 0);
    assert(isMiss(kernel.read(id, 3 * BLOCK, BLOCK)));
  });
});

describe("more files than may be open at a time", () => {
  test("have each their own data", () => {
    const ids = Array.from({ length: 20 }, (_, i) => kernel.create(1, `f${i}`).id);
    for (const [i, id] of ids.entries()) kernel.write(id, 0, filled(BLOCK, i));
    for (const [i, id] of ids.entries()) {
      assert.deepEqual(data(kernel.read(id, 0, BLOCK)), filled(BLOCK, i));
    }
  });
});

describe("INIT", () => {
  const FLAGS = (1 << 16) | (1 << 22) | 1;

  test("takes the write-back cache and large requests", () => {
    const { view } = kernel.call(fuse.FUSE_INIT, 0, 7, 45, 1 << 20, FLAGS, 0);
    assert.equal(view.getUint32(0, true), 7);
    assert.equal(view.getUint32(12, true), FLAGS);
    assert.equal(view.getUint32(20, true), 1 << 20);
  });

  test("refuses a kernel that has no write-back cache", () => {
    assert.throws(() => kernel.call(fuse.FUSE_INIT, 0, 7, 45, 1 << 20, 1 << 22, 0), /write-back/);
  });
});
