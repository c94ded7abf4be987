/** Calls the page server when a safekeeper has WAL that the page server lacks. */
import { errorMessage, ZenithError } from "../common/errors.ts";
import { formatHostPort, type HostPort } from "../common/host_port.ts";
import type { Logger } from "../process/log.ts";
import type { Lsn } from "../common/lsn.ts";
import { formatConnInfo } from "../pgwire/conninfo.ts";
import { call } from "../protocol/call.ts";
import { connectServer, type ServerAddress, serverName } from "../protocol/connect.ts";
import { PAGE_SERVER } from "../protocol/management.ts";
import { SAFEKEEPER_USER, timelineOptions } from "../protocol/wal_connection.ts";
import type { SafekeeperTimeline } from "./timeline.ts";

const CONNECT_TIMEOUT_MS = 5_000;

/**
 * How long the safekeeper stops calling for a timeline that the page server does not know: its
 * branch was deleted.
 */
const UNKNOWN_RETRY_MS = 60_000;

/**
 * Asks the page server to come and read (`callmemaybe`). It calls for each timeline with committed
 * WAL that the page server has not made durable, while the page server makes no progress. With
 * several safekeepers, each hears through the proposer of progress at the others, so safekeepers
 * that are not read from stay silent.
 */
export class Recall {
  readonly #pageserver: ServerAddress;
  readonly #self: HostPort;
  readonly #logger: Logger;
  /** The page server's position at the last round, by timeline. */
  #positions = new Map<SafekeeperTimeline, Lsn>();
  /** Timelines that the page server does not know, and until when not to call for them. */
  readonly #unknownUntil = new WeakMap<SafekeeperTimeline, number>();
  #lastError = "";

  constructor(pageserver: ServerAddress, self: HostPort, logger: Logger) {
    this.#pageserver = pageserver;
    this.#self = self;
    this.#logger = logger;
  }

  /** Runs one round. Failures are logged, and the next round tries again. */
  async run(timelines: readonly SafekeeperTimeline[]): Promise<void> {
    const positions = new Map<SafekeeperTimeline, Lsn>();
    for (const timeline of timelines) {
      const { commitLsn, remoteConsistentLsn } = timeline.state;
      if (commitLsn <= remoteConsistentLsn) continue;
      if ((this.#unknownUntil.get(timeline) ?? 0) > performance.now()) continue;
      positions.set(timeline, remoteConsistentLsn);
      if (this.#positions.get(timeline) === remoteConsistentLsn) await this.#call(timeline);
    }
    this.#positions = positions;
  }

  async #call(timeline: SafekeeperTimeline): Promise<void> {
    const { tenantId, timelineId } = timeline.identity;
    const connInfo = formatConnInfo({
      host: this.#self.host,
      port: this.#self.port,
      user: SAFEKEEPER_USER,
      options: timelineOptions(tenantId, timelineId),
    });
    try {
      const pageserver = { ...this.#pageserver, tenant: tenantId };
      await using client = await connectServer("page server", pageserver, {
        applicationName: "safekeeper",
        connectTimeoutMs: CONNECT_TIMEOUT_MS,
      });
      await call(client, serverName("page server", this.#pageserver), PAGE_SERVER.callmemaybe, {
        tenant: tenantId,
        timeline: timelineId,
        conninfo: connInfo,
      });
      this.#lastError = "";
    } catch (error) {
      if (error instanceof ZenithError && error.kind === "not_found") {
        this.#unknownUntil.set(timeline, performance.now() + UNKNOWN_RETRY_MS);
      }
      const message = errorMessage(error);
      if (message === this.#lastError) return;
      this.#lastError = message;
      this.#logger.warn(`could not call the page server at ${formatHostPort(this.#pageserver)}: ${message}`);
    }
  }
}
