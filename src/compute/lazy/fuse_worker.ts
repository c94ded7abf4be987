/**
 * The thread that owns the mount's names, attributes and overlay. It does nothing but answer the
 * kernel's requests.
 */
import { parentPort } from "node:worker_threads";
import { assert } from "../../common/assert.ts";
import { errorMessage, systemErrorCode, ZenithError } from "../../common/errors.ts";
import { CONTROL_FILE_PATH } from "../../postgres/control_file.ts";
import { decodeRelationManifest } from "../../protocol/relation_manifest.ts";
import { BackingFiles } from "./files/backing_files.ts";
import { device } from "./fuse/device.ts";
import { DiskRoom, freeShare } from "./files/disk_room.ts";
import { isTransientDeviceError, isUnmounted } from "./fuse/errno.ts";
import { FileData, overlayError } from "./files/file_data.ts";
import { firstReads } from "./files/first_reads.ts";
import { FuseSession } from "./files/fuse_session.ts";
import { InodeTable } from "./files/inode_table.ts";
import { pgVersion } from "../../postgres/versions/find_version.ts";
import { collectHotPages, type HotRange } from "./pages/hot_pages.ts";
import { KeptPages, type KeptPageSink } from "./pages/kept_pages.ts";
import { OverlaySpace } from "./files/overlay_space.ts";
import { populate } from "./files/populate.ts";
import { PrewarmPlan } from "./pages/prewarm_plan.ts";
import {
  forgetAttributesMessage,
  FUSE_GETATTR,
  FUSE_INIT,
  FUSE_LOOKUP,
  FUSE_NOTIFY_REPLY,
  FUSE_SETATTR,
  FuseBuffers,
  IN_NODEID,
  IN_OPCODE,
  IN_UNIQUE,
  OUT_HEADER_BYTES,
} from "./fuse/protocol.ts";
import { type ServeMessage, WAKE_TO_LOOK_AT_DISK, type WorkerMessage } from "./pages/worker_messages.ts";

/** How many descriptors the overlay may have open. The usual limit of a process is 1024. */
const OVERLAY_OPEN_FILES_MAX = 500;

assert(parentPort !== null, "fuse_worker.ts runs as a Worker");
const parent = parentPort;

function tell(message: WorkerMessage): void {
  parent.postMessage(message);
}

parent.on("message", (message: ServeMessage) => {
  try {
    tell({ type: "unmounted", hotPages: serve(message) });
  } catch (error) {
    const reason = overlayError(message.overlayDirectory, error);
    const kind = reason instanceof ZenithError ? reason.kind : "io";
    tell({ type: "failed", kind, message: errorMessage(reason) });
  }
});

/**
 * Reads and answers requests until the mount is gone. Blocks, so nothing else runs on this thread.
 *
 * @returns the pages that were hot then
 */
function serve(
  message: ServeMessage,
): HotRange[] {
  const { deviceFd, seedDirectory, overlayDirectory, overlayMaxBytes, prewarm, wal, owner } = message;
  const pg = pgVersion(message.pgMajor);
  const files = new BackingFiles(overlayDirectory, OVERLAY_OPEN_FILES_MAX);
  const space = new OverlaySpace(files, {
    maxBytes: overlayMaxBytes,
    onWrittenTooMuch: (writtenBytes) => tell({ type: "overlay full", writtenBytes }),
  });
  const room = new DiskRoom({
    freeShare: () => freeShare(overlayDirectory),
    reclaim: () => space.giveUpAll(),
    onChange: (isLow) => {
      tell({ type: "disk low", isLow });
      if (isLow) { for (const { id } of inodes.knownFiles()) forgetAttributes(deviceFd, id); }
    },
  });
  const data = new FileData(files, space, room);
  const inodes = new InodeTable(owner, (inode) => data.remove(inode));
  const manifest = decodeRelationManifest(message.manifest);
  populate(pg, inodes, seedDirectory, manifest, wal, owner, (id) => files.path(id));
  tell({ type: "expected", reads: firstReads(inodes) });
  const session = new FuseSession({
    inodes,
    data,
    room,
    overlayDirectory,
    onMiss: (miss) => tell({ type: "miss", miss }),
  });
  const keptPages = new KeptPages(message.keptPages);
  const overlay: KeptPageSink = {
    keepPage(id, block, bytes, at) {
      const inode = inodes.find(id);
      if (inode !== undefined) data.keep(inode, block, bytes, at);
    },
  };
  const plan = new PrewarmPlan({ pg, inodes, data, space }, prewarm);
  const wake = ({ requestWords }: FuseBuffers): void => {
    if (requestWords[IN_UNIQUE] === WAKE_TO_LOOK_AT_DISK) room.check();
    else tell({ type: "prewarm", reads: plan.next(), knownInode: requestWords[IN_NODEID] });
  };
  const buffers = new FuseBuffers();
  while (readRequest(deviceFd, buffers)) {
    keptPages.drain(overlay);
    const length = session.handle(buffers);
    if (length > 0 && !writeReply(deviceFd, buffers, length)) break;
    const opcode = buffers.requestWords[IN_OPCODE];
    if (opcode === FUSE_INIT) tell({ type: "serving", controlFile: inodes.at(CONTROL_FILE_PATH)!.id });
    else if (opcode === FUSE_NOTIFY_REPLY) wake(buffers);
    // The kernel has just learned attributes, and would use them for writes without asking.
    if (room.isLow && LEARNS_ATTRIBUTES.has(opcode!)) forgetAttributes(deviceFd, subject(buffers));
  }
  files.closeAll();
  return collectHotPages(pg, inodes.root);
}

/** Requests whose replies contain a file's attributes. */
const LEARNS_ATTRIBUTES = new Set([FUSE_LOOKUP, FUSE_GETATTR, FUSE_SETATTR]);

/** Returns the inode that the attributes belong to. For LOOKUP it is the node in fuse_entry_out. */
function subject({ requestWords, replyWords }: FuseBuffers): number {
  return requestWords[IN_OPCODE] === FUSE_LOOKUP ? replyWords[OUT_HEADER_BYTES / 4] : requestWords[IN_NODEID];
}

function forgetAttributes(deviceFd: number, inode: number): void {
  const message = forgetAttributesMessage(inode);
  try {
    device.write(deviceFd, message, message.length);
  } catch (error) {
    // The kernel doesn't know the file any more, or the mount is gone, which the next read reports.
    if (systemErrorCode(error) !== "ENOENT" && !isUnmounted(error)) throw error;
  }
}

/** @returns false when the mount is gone */
function readRequest(deviceFd: number, buffers: FuseBuffers): boolean {
  for (;;) {
    try {
      device.read(deviceFd, buffers.request);
      return true;
    } catch (error) {
      if (isUnmounted(error)) return false;
      if (!isTransientDeviceError(error)) throw error;
    }
  }
}

/** @returns false when the mount is gone */
function writeReply(deviceFd: number, buffers: FuseBuffers, length: number): boolean {
  try {
    device.write(deviceFd, buffers.reply, length);
    return true;
  } catch (error) {
    if (isUnmounted(error)) return false;
    // The caller no longer waits for the reply.
    if (systemErrorCode(error) === "ENOENT") return true;
    throw new ZenithError(
      "io",
      `the kernel refused the reply to request ${buffers.requestWords[IN_OPCODE]}: ${errorMessage(error)}`,
      { cause: error },
    );
  }
}
