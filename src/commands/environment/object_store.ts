/** `zenith object-store set`: chooses where everything is uploaded to. */
import { hasLocalPageServer, loadEnvironment } from "../../control/environment.ts";
import { setObjectStore } from "../../control/object_store_setting.ts";
import { isPageServerRunning, startPageServer, stopPageServer } from "../../control/page_server_process.ts";
import { nodeDisk } from "../../common/disk.ts";
import { ZenithError } from "../../common/errors.ts";
import { openObjectStore, probeObjectStore } from "../../object_store/open_store.ts";
import { otherStoreNeeded } from "../../pageserver/timeline/remote_layer_list.ts";
import { type Command, requiredArg } from "../cli/command.ts";
import { print, Progress } from "../cli/output.ts";

export const objectStoreSetCommand: Command = {
  usage: "object-store set <url>",
  description: "Upload all tenants to an object store, those that are here already as well",
  examples: [
    ["object-store set s3://backups/edge1?region=eu-west-1", "AWS; credentials as its own tools find them"],
    ["object-store set s3://backups/edge1?endpoint=https://ceph:7480", "A server of one's own"],
    ["object-store set file:///mnt/nas/zenith", "A directory of a file server"],
  ],
  async run(args) {
    const url = requiredArg(args, 0);
    const environment = loadEnvironment();
    if (!hasLocalPageServer(environment)) {
      throw new ZenithError("invalid_argument", "the page server is not of this environment", {
        hint: "set its object store where it runs",
      });
    }
    const store = openObjectStore(url);
    const needed = otherStoreNeeded(nodeDisk, environment.paths.pageserver, store.url);
    if (needed !== null) {
      throw new ZenithError("conflict", `layers that are not here are in ${needed}`, {
        hint: "copy its objects to the new store, and take the tenants over from there with init --from",
      });
    }
    await probeObjectStore(store);
    setObjectStore(environment.paths.pageserver, url);
    if (isPageServerRunning(environment)) {
      using _progress = new Progress("starting the page server anew");
      await stopPageServer(environment, "fast");
      await startPageServer(environment);
    }
    print(`everything is uploaded to ${store.url} from now on; "zenith status" shows how far it is`);
  },
};
