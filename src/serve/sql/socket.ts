/**
 * PostgreSQL's protocol in a WebSocket, `/v2`: what the serverless driver's Pool and Client use.
 */
import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import type { Proxy } from "../proxy/proxy.ts";
import { acceptWebSocket } from "./websocket.ts";

const PATH = "/v2";

/** Takes over a connection that asks to become a WebSocket. */
export function upgradeToPostgres(
  proxy: Proxy,
  request: IncomingMessage,
  socket: Duplex,
  head: Buffer,
): void {
  const [path] = (request.url ?? "").split("?");
  const stream = path === PATH ? acceptWebSocket(request, socket, head) : undefined;
  if (stream === undefined) {
    // Nobody reads it any more, so nobody would see its other end close.
    socket.end(
      "HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
      () => socket.destroy(),
    );
    return;
  }
  const host = (request.headers.host ?? "").replace(/:\d+$/, "").toLowerCase();
  // The driver sends its password together with its startup packet, before it is asked.
  void proxy.serve(stream, request.socket.remoteAddress ?? "", undefined, "password", host);
}
