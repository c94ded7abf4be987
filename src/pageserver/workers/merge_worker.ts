/**
 * The thread that merges layers. It reads files that no longer change and writes new ones. The page
 * server's own thread only starts the merge and swaps the files.
 */
import { nodeDisk } from "../../common/disk.ts";
import { askParent, serveRequests } from "../../process/worker_thread.ts";
import { mergeLayers, type MergeReply, type MergeRequest, pacedMerge } from "../../pagestore/mod.ts";
import { pgVersion } from "../../postgres/versions/find_version.ts";
import { pageImages } from "../content/rebuild_page.ts";
import { borrowedLayers } from "../remote/borrowed_layers.ts";

const layers = borrowedLayers(nodeDisk, askParent);

serveRequests<MergeRequest, MergeReply>((request) =>
  mergeLayers(nodeDisk, request, pageImages(pgVersion(request.valueFormat)), pacedMerge(request), layers)
);
