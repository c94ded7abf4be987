/** Runs a page server with its wire service and its worker threads. */
import { nodeDisk } from "../../common/disk.ts";
import { ZenithError } from "../../common/errors.ts";
import { type HostPort, parseHostPort } from "../../common/host_port.ts";
import type { Logger } from "../../process/log.ts";
import type { PageServerConfig } from "../../common/page_server_config.ts";
import type { PageServerPaths } from "../../common/paths.ts";
import { WorkerThread } from "../../process/worker_thread.ts";
import type { FlushRequest, MergeReply, MergeRequest, WrittenLayer } from "../../pagestore/mod.ts";
import { PgServer } from "../../pgwire/server.ts";
import type { Credentials } from "../../protocol/connect.ts";
import { Guard } from "../../protocol/guard.ts";
import type { ChunkQuestion } from "../remote/borrowed_layers.ts";
import { EtcdPlaces } from "../../places/etcd_places.ts";
import { parsePlacesUrl } from "../../places/location.ts";
import type { Places } from "../../places/places.ts";
import { openEncryptedStore } from "../remote/encrypted_store.ts";
import { PageServer } from "./page_server.ts";
import { pageService } from "./page_service.ts";

export interface PageServerRoleOptions {
  readonly paths: PageServerPaths;
  readonly config: PageServerConfig;
  readonly listen: HostPort;
  readonly logger: Logger;
  /** Decides who may do what. Everybody may do everything without it. */
  readonly guard?: Guard;
  /** By which the page server proves itself to safekeepers. */
  readonly credentials?: Credentials;
}

/** A page server that is listening. */
export interface RunningPageServer {
  readonly address: HostPort;
  readonly server: PageServer;
  /** `immediate` does not write layers: the next start replays the WAL that is not in them. */
  stop(mode: "fast" | "immediate"): Promise<void>;
}

/**
 * Opens the working directory and listens.
 *
 * @throws {ZenithError} when the port is taken or the directory is unusable
 */
export async function runPageServer(options: PageServerRoleOptions): Promise<RunningPageServer> {
  const { paths, config, listen, logger, guard = Guard.open(), credentials } = options;
  const flushes = new WorkerThread<FlushRequest, WrittenLayer>("src/pageserver/workers/flush_worker.ts");
  const merges = new WorkerThread<MergeRequest, MergeReply>(
    "src/pageserver/workers/merge_worker.ts",
    ({ path, chunk, isSuspect }: ChunkQuestion) => server.layerChunk(path, chunk, isSuspect),
  );
  const server: PageServer = await PageServer.open({
    disk: nodeDisk,
    flushLayer: (request) => flushes.run(request),
    mergeLayers: (request) => merges.run(request),
    paths,
    config,
    logger,
    ...(config.object_store === undefined
      ? {}
      : { objectStore: openEncryptedStore(config.object_store, config.object_store_key_file ?? null) }),
    ...(config.places === undefined ? {} : { places: openPlaces(config) }),
    credentials,
  });
  const wire = new PgServer(pageService(server, guard), {
    negotiation: guard.negotiation,
    onConnectionError: (client, error) => logger.warn("connection failed", { client, err: error }),
    onQueryError: (session, sql, error) =>
      logger.warn("command failed", { client: session.remoteAddress, command: sql, err: error }),
  });
  try {
    const address = await wire.listen(listen);
    server.scrub.start();
    const stopWatching = guard.watch(wire);
    return {
      address,
      server,
      stop: async (mode) => {
        stopWatching();
        await wire.close();
        if (mode === "fast") await server.close();
      },
    };
  } catch (error) {
    await server.close();
    throw error;
  }
}

/** @throws {ZenithError} `invalid_argument` when page servers could not pass tenants on */
function openPlaces({ places, object_store, advertise, listen }: PageServerConfig): Places {
  if (object_store === undefined) {
    throw new ZenithError("invalid_argument", "pageserver.toml has places, but no object_store", {
      hint: "page servers pass tenants on by an object store that all of them use",
    });
  }
  if (parseHostPort(advertise ?? listen).port === 0) {
    throw new ZenithError("invalid_argument", "with places, others have to know the page server's port", {
      hint: "listen on a port of your choice, or set advertise in pageserver.toml",
    });
  }
  return new EtcdPlaces(parsePlacesUrl(places!));
}
