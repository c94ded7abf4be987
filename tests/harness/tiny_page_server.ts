/** A page server in this process, on a disk of the tests', whose tenants begin with a tiny cluster. */
import { parse } from "valibot";
import { parseTenantId, type TenantId } from "../../src/common/id.ts";
import { type PageServerConfig, PageServerConfigSchema } from "../../src/common/page_server_config.ts";
import { PageServerPaths } from "../../src/common/paths.ts";
import type { ObjectStore } from "../../src/object_store/object_store.ts";
import type { RetryingStore } from "../../src/object_store/retrying.ts";
import { pageImages } from "../../src/pageserver/content/rebuild_page.ts";
import { storedValues } from "../../src/pageserver/content/stored_values.ts";
import { EncryptedStore } from "../../src/pageserver/remote/encrypted_store.ts";
import { PageServer } from "../../src/pageserver/service/page_server.ts";
import type { Timeline } from "../../src/pageserver/timeline/timeline.ts";
import { flushHere, mergeHere } from "../../src/pagestore/mod.ts";
import type { PgVersion } from "../../src/postgres/versions/pg_version.ts";
import { V15 } from "../../src/postgres/versions/v15.ts";
import { NULL_LOGGER } from "../../src/process/log.ts";
import { FaultyDisk } from "./faulty_disk.ts";
import { Random } from "./random.ts";
import { makeTinyCluster, TINY_SEGMENT_SIZE, type TinyClusterOptions } from "./tiny_cluster.ts";
import { WalBuilder } from "./wal_builder.ts";

export const TINY_PATHS = new PageServerPaths("/w");
export const TINY_TENANT = parseTenantId("a".repeat(32));
const CLUSTER = "/cluster";

/** A disk that such a page server can be opened on. */
export function tinyDisk(options: TinyClusterOptions = {}): FaultyDisk {
  const disk = new FaultyDisk(new Random(1));
  makeTinyCluster(disk, CLUSTER, options);
  disk.mkdirsSync(TINY_PATHS.tenants);
  return disk;
}

/** Opens it, also again after a crash. */
export function openTinyPageServer(
  disk: FaultyDisk,
  config: PageServerConfig = parse(PageServerConfigSchema, {}),
  pg: PgVersion = V15,
  objectStore?: RetryingStore,
  layerStore?: ObjectStore,
): Promise<PageServer> {
  return PageServer.open({
    disk,
    flushLayer: flushHere(disk, storedValues(pg)),
    mergeLayers: mergeHere(disk, pageImages(pg)),
    paths: TINY_PATHS,
    config,
    logger: NULL_LOGGER,
    initialCluster: () => Promise.resolve(CLUSTER),
    ...(objectStore === undefined ? {} : { objectStore: new EncryptedStore(objectStore, null) }),
    ...(layerStore === undefined ? {} : { layerStore }),
  });
}

/** The timeline of a tenant's first branch. */
export async function mainTimeline(server: PageServer, tenant: TenantId = TINY_TENANT): Promise<Timeline> {
  const { branches, timelines } = server.tenant(tenant);
  const [main] = await branches.list();
  return (await timelines.hold(main!.timelineId)).value;
}

/** Builds WAL that goes on at the timeline's end. */
export function walAfter(timeline: Timeline): WalBuilder {
  const { lsn, prev } = timeline.boundary(null);
  return new WalBuilder({
    pg: timeline.pg,
    startLsn: lsn,
    prev,
    segmentSize: TINY_SEGMENT_SIZE,
    systemId: timeline.systemIdentifier,
  });
}
