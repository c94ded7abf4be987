/**
 * The thread that compresses blocks. zstd is most of the work of writing a layer, and in the page server's one thread it
 * would be time in which nobody is answered.
 */
import { parentPort } from "node:worker_threads";
import { assert } from "../common/assert.ts";
import { type CompressReply, type CompressRequest, storeBlock } from "./compress.ts";

const port = parentPort;
assert(port !== null, "compress_worker.ts is started as a worker");
port.on("message", (request: CompressRequest) => {
  const reply: CompressReply = request.map(storeBlock);
  port.postMessage(reply, reply.map((block) => block.bytes.buffer as ArrayBuffer));
});
