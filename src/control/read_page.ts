/** Reads single pages from a page server, for inspection. */
import { ZenithError } from "../common/errors.ts";
import type { TenantId, TimelineId } from "../common/id.ts";
import type { Lsn } from "../common/lsn.ts";
import { PgError } from "../pgwire/sqlstate.ts";
import { connectServer, type ServerAddress } from "../protocol/connect.ts";
import { PAGE_SERVER } from "../protocol/management.ts";
import { formatCommand } from "../protocol/operation.ts";
import {
  decodeResponse,
  encodeRequest,
  PageRequest,
  PageResponse,
  REQUEST_BYTES,
  REQUEST_PAGES,
  RESPONSE_ERROR,
  responseErrorMessage,
} from "../protocol/pagestream.ts";

export interface PageAddress {
  readonly spc: number;
  readonly db: number;
  readonly rel: number;
  readonly fork: number;
  readonly blkno: number;
}

/**
 * Reads one page from a page server.
 *
 * @param lsn 0 for the newest version
 * @returns 8192 bytes
 * @throws {ZenithError} the page server's own error when the block does not exist
 */
export async function readPage(
  pageServer: ServerAddress,
  tenant: TenantId,
  timeline: TimelineId,
  address: PageAddress,
  lsn: Lsn,
): Promise<Uint8Array> {
  await using client = await connectServer("page server", { ...pageServer, tenant }, {
    applicationName: "zenith",
  });
  const copy = await client.copyBoth(formatCommand(PAGE_SERVER.pagestream, { tenant, timeline }));
  const request = Object.assign(new PageRequest(), address, {
    tag: REQUEST_PAGES,
    lsn,
    requestId: 1,
    count: 1,
  });
  const at = copy.reserve(REQUEST_BYTES);
  encodeRequest(copy.buffer, at, request);
  let page: Uint8Array | undefined;
  const response = new PageResponse();
  await copy.run({
    onData(bytes, off, len) {
      decodeResponse(response, bytes, off, len);
      if (response.tag === RESPONSE_ERROR) {
        throw new PgError(response.sqlstate, responseErrorMessage(response, bytes));
      }
      page = bytes.slice(response.off, response.off + response.len);
      copy.end();
    },
  });
  if (page === undefined) {
    throw new ZenithError("protocol", "the page server ended the stream without an answer");
  }
  return page;
}
