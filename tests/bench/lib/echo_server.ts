/** The reference of `getpage`, a process of its own as the page server is: answers every 36 bytes with 8 KiB, as fast as can be. */
import { Buffer } from "node:buffer";
import { type AddressInfo, createServer } from "node:net";
import { PAGE_BYTES, REQUEST_BYTES } from "../../../src/protocol/pagestream.ts";

const MAX_PAGES_PER_WRITE = 64;

const pages = Buffer.alloc(PAGE_BYTES * MAX_PAGES_PER_WRITE, 1);
const server = createServer((socket) => {
  socket.setNoDelay(true);
  let pending = 0;
  socket.on("data", (chunk) => {
    pending += chunk.length;
    const count = Math.min(MAX_PAGES_PER_WRITE, Math.floor(pending / REQUEST_BYTES));
    pending -= count * REQUEST_BYTES;
    if (count > 0) socket.write(pages.subarray(0, count * PAGE_BYTES));
  });
  socket.on("error", () => {});
});
server.listen(0, "127.0.0.1", () => console.log((server.address() as AddressInfo).port));
