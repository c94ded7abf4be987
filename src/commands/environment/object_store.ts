/** `zenith object-store`: where everything is uploaded to, and the key that encrypts it. */
import {
  type Environment,
  hasLocalPageServer,
  loadEnvironment,
  pageServerAddress,
} from "../../control/environment.ts";
import { PageServerClient } from "../../control/page_server_client.ts";
import { objectStoreSetting, setObjectStore } from "../../control/object_store_setting.ts";
import { isPageServerRunning, startPageServer, stopPageServer } from "../../control/page_server_process.ts";
import { nodeDisk } from "../../common/disk.ts";
import { ZenithError } from "../../common/errors.ts";
import { forEachOf } from "../../common/for_each_of.ts";
import type { TenantId } from "../../common/id.ts";
import { generateStoreKey, readKeyFile, writeKeyFile } from "../../object_store/key_file.ts";
import { probeObjectStore } from "../../object_store/open_store.ts";
import { openEncryptedStore } from "../../pageserver/remote/encrypted_store.ts";
import { type StoredTenant, storedTenant, storedTenants } from "../../pageserver/remote/stored_tenants.ts";
import { otherStoreNeeded } from "../../pageserver/timeline/remote_layer_list.ts";
import { type Command, JSON_OPTION, requiredArg } from "../cli/command.ts";
import { type Column, formatBytes, print, printList, Progress } from "../cli/output.ts";
import { chooseKeyFile, KEY_FILE_OPTION } from "./store_key.ts";

/** How many tenants are looked at at the same time. */
const TENANTS_AT_ONCE = 8;

export const objectStoreSetCommand: Command = {
  usage: "object-store set <url>",
  description: "Upload all tenants to an object store, those that are here already as well",
  options: [KEY_FILE_OPTION],
  examples: [
    ["object-store set s3://backups/edge1?region=eu-west-1", "AWS; credentials as its own tools find them"],
    [
      "object-store set s3://backups/edge1?region=eu-west-1 --key-file /etc/zenith/edge1.key",
      "Encrypted with a key that only you have",
    ],
    ["object-store set s3://backups/edge1?endpoint=https://ceph:7480", "A server of one's own"],
    ["object-store set file:///mnt/nas/zenith", "A directory of a file server"],
  ],
  async run(args, options) {
    const url = requiredArg(args, 0);
    const environment = localEnvironment("set its object store where it runs");
    const { pageserver } = environment.paths;
    const chosen = chooseKeyFile(options, "make");
    const keyFile = chosen?.path ?? objectStoreSetting(pageserver)?.keyFile;
    const store = openEncryptedStore(url, keyFile ?? null);
    const needed = otherStoreNeeded(nodeDisk, pageserver, store.url);
    if (needed !== null) {
      throw new ZenithError("conflict", `layers that are not here are in ${needed}`, {
        hint: "copy its objects to the new store, and take the tenants over from there with init --from",
      });
    }
    await probeObjectStore(store);
    setObjectStore(pageserver, { url, keyFile });
    if (isPageServerRunning(environment)) {
      using _progress = new Progress("starting the page server anew");
      await stopPageServer(environment, "fast");
      await startPageServer(environment);
    }
    if (chosen !== null) print(chosen.said);
    print(`everything is uploaded to ${store.url} from now on; "zenith status" shows how far it is`);
  },
};

export const objectStoreRotateKeyCommand: Command = {
  usage: "object-store rotate-key",
  description: "Make a new key for the object store, and encrypt the tenants' keys there with it",
  examples: [["object-store rotate-key", "The key before stays in the file, until the next time"]],
  async run() {
    const environment = localEnvironment("rotate the key where it runs");
    const setting = objectStoreSetting(environment.paths.pageserver);
    if (setting?.keyFile === undefined) {
      throw new ZenithError("invalid_argument", "nothing is encrypted: no key file is set", {
        hint: 'set one with "zenith object-store set <url> --key-file <file>"',
      });
    }
    const { url, keyFile } = setting;
    const before = readKeyFile(keyFile);
    const key = generateStoreKey();
    // Written first: whatever is encrypted with the new key can be read, whenever this ends.
    writeKeyFile(keyFile, [key, ...before]);
    const store = openEncryptedStore(url, keyFile);
    let tenants = 0;
    using progress = new Progress("encrypting the tenants' keys anew");
    for (const tenant of await storedTenants(store)) {
      if (await store.dataKeys.rewrap(tenant)) progress.update(`${++tenants} tenants' keys`);
    }
    // A tenant that was made meanwhile may have the key before this one until its next change.
    writeKeyFile(keyFile, [key, before[0]]);
    const whose = tenants === 1 ? "one tenant's key" : `${tenants} tenants' keys`;
    print(`key ${key.id} in ${keyFile} encrypts ${whose} now; copy the file again to where you keep it`);
  },
};

interface ListedTenant extends StoredTenant {
  readonly id: TenantId;
  readonly isHere: boolean;
}

const COLUMNS: readonly Column<ListedTenant>[] = [
  { title: "TENANT", cell: ({ id }) => id },
  { title: "STATE", cell: stateOf },
  { title: "SIZE", cell: ({ bytes }) => formatBytes(bytes) },
  { title: "NEWEST OBJECT", cell: ({ newestMs }) => new Date(newestMs).toISOString() },
];

function stateOf({ isHere, deletedMs, problem }: ListedTenant): string {
  if (isHere) return "in use here";
  if (deletedMs !== null) return `deleted at ${new Date(deletedMs).toISOString()}`;
  return problem ?? "not here";
}

export const objectStoreListCommand: Command = {
  usage: "object-store list",
  description: "List the tenants that the object store has something of",
  options: [JSON_OPTION],
  examples: [
    ["object-store list", 'What is "not here" is used elsewhere, or left: attach it to use or delete it'],
  ],
  async run(_args, options) {
    const environment = localEnvironment("list it where it runs");
    const setting = objectStoreSetting(environment.paths.pageserver);
    if (setting === undefined) throw new ZenithError("invalid_argument", "no object store is set");
    await using client = new PageServerClient(pageServerAddress(environment));
    const here = new Set(await client.tenantList());
    const store = openEncryptedStore(setting.url, setting.keyFile ?? null);
    const found = new Map<TenantId, ListedTenant>();
    using progress = new Progress("looking at the store");
    const all = await storedTenants(store);
    await forEachOf(all, TENANTS_AT_ONCE, async (id) => {
      progress.update(`looking at ${id}`);
      found.set(id, { id, isHere: here.has(id), ...await storedTenant(store, id) });
    });
    const json = (tenant: ListedTenant) => ({
      tenant_id: tenant.id,
      state: tenant.isHere ? "here" : tenant.deletedMs !== null ? "deleted" : "not_here",
      deleted_at: tenant.deletedMs === null ? null : new Date(tenant.deletedMs).toISOString(),
      problem: tenant.problem,
      bytes: tenant.bytes,
      newest_at: new Date(tenant.newestMs).toISOString(),
    });
    printList(all.map((id) => found.get(id)!), COLUMNS, json, options);
  },
};

/** @throws {ZenithError} `invalid_argument` when the page server is somebody else's */
function localEnvironment(hint: string): Environment {
  const environment = loadEnvironment();
  if (hasLocalPageServer(environment)) return environment;
  throw new ZenithError("invalid_argument", "the page server is not of this environment", { hint });
}
