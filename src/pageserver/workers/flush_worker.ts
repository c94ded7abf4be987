/**
 * The thread that writes out memory layers. Sorting and compressing them is as much work as
 * ingesting the WAL. In the page server's one thread, no requests would be answered meanwhile.
 */
import { nodeDisk } from "../../common/disk.ts";
import { serveRequests } from "../../process/worker_thread.ts";
import { flushLayer, type FlushRequest, type WrittenLayer } from "../../pagestore/mod.ts";
import { pgVersion } from "../../postgres/versions/find_version.ts";
import { storedValues } from "../content/stored_values.ts";

serveRequests<FlushRequest, WrittenLayer>((request) => {
  // A timeline without WAL so far has no records to cut down.
  const encode = request.valueFormat === 0 ? undefined : storedValues(pgVersion(request.valueFormat));
  return flushLayer(nodeDisk, request, encode);
});
