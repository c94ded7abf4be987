/**
 * The thread that merges layers. It reads files that do not change any more and writes new ones, so
 * that the page server's own thread has nothing to do with it but to ask for it and to put the new
 * files in the place of the old.
 */
import { nodeDisk } from "../../common/disk.ts";
import { serveRequests } from "../../process/worker_thread.ts";
import { mergeLayers, type MergeReply, type MergeRequest, pacedMerge } from "../../pagestore/mod.ts";
import { pgVersion } from "../../postgres/versions/find_version.ts";
import { pageImages } from "../content/rebuild_page.ts";

serveRequests<MergeRequest, MergeReply>((request) =>
  mergeLayers(nodeDisk, request, pageImages(pgVersion(request.valueFormat)), pacedMerge(request))
);
