/**
 * Asks the page server about WAL that is not here: it reads what was removed from the object store.
 */
import type { TenantId } from "../common/id.ts";
import type { Lsn } from "../common/lsn.ts";
import type { TimelineIdentity } from "../consensus/messages.ts";
import type { PgClient } from "../pgwire/client.ts";
import type { WalTimelines } from "../postgres/wal/wal_timelines.ts";
import { connectServer, type ServerAddress, serverName } from "../protocol/connect.ts";
import { call } from "../protocol/call.ts";
import { PAGE_SERVER } from "../protocol/management.ts";
import { formatCommand } from "../protocol/operation.ts";

const CONNECT_TIMEOUT_MS = 5_000;

export class OlderWal {
  readonly #pageserver: ServerAddress;

  constructor(pageserver: ServerAddress) {
    this.#pageserver = pageserver;
  }

  /**
   * Returns the timelines of PostgreSQL that the WAL has run through, as far as the page server has
   * it.
   *
   * @throws what the page server answers, or why it can't be reached
   */
  async timelines({ tenantId: tenant, timelineId: timeline }: TimelineIdentity): Promise<WalTimelines> {
    await using client = await this.#connect(tenant);
    const server = serverName("page server", this.#pageserver);
    return await call(client, server, PAGE_SERVER.walTimelines, { tenant, timeline });
  }

  /**
   * Yields WAL from `from` to `until`, in parts of any size.
   *
   * @throws what the page server answers, or why it can't be reached
   */
  async *read(
    { tenantId, timelineId }: TimelineIdentity,
    from: Lsn,
    until: Lsn,
  ): AsyncGenerator<Uint8Array, void, void> {
    await using client = await this.#connect(tenantId);
    yield* client.copyOut(
      formatCommand(PAGE_SERVER.walRead, { tenant: tenantId, timeline: timelineId, lsn: from, until }),
    );
  }

  #connect(tenant: TenantId): Promise<PgClient> {
    return connectServer("page server", { ...this.#pageserver, tenant }, {
      applicationName: "safekeeper",
      connectTimeoutMs: CONNECT_TIMEOUT_MS,
    });
  }
}
