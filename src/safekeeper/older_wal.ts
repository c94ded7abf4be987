/** Reads WAL that was removed here from the page server, which reads it from the object store. */
import type { Lsn } from "../common/lsn.ts";
import type { TimelineIdentity } from "../consensus/messages.ts";
import { connectServer, type ServerAddress } from "../protocol/connect.ts";
import { PAGE_SERVER } from "../protocol/management.ts";
import { formatCommand } from "../protocol/operation.ts";

const CONNECT_TIMEOUT_MS = 5_000;

export class OlderWal {
  readonly #pageserver: ServerAddress;

  constructor(pageserver: ServerAddress) {
    this.#pageserver = pageserver;
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
    await using client = await connectServer("page server", { ...this.#pageserver, tenant: tenantId }, {
      applicationName: "safekeeper",
      connectTimeoutMs: CONNECT_TIMEOUT_MS,
    });
    yield* client.copyOut(
      formatCommand(PAGE_SERVER.walRead, { tenant: tenantId, timeline: timelineId, lsn: from, until }),
    );
  }
}
