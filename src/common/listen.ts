/** Lets a server listen on a TCP port. */
import type { AddressInfo, Server } from "node:net";
import { errorMessage, systemErrorCode, ZenithError } from "./errors.ts";
import { formatHostPort, type HostPort } from "./host_port.ts";

/**
 * Starts to listen. Port 0 picks a free port.
 *
 * @param onError what goes wrong later: accept() may fail for lack of descriptors, which loses the
 *   client, not the server
 * @returns the address that it listens on
 * @throws {ZenithError} `unavailable` when the port is taken, `io` when it can't be opened
 */
export function listen(
  server: Server,
  address: HostPort,
  onError: (error: Error) => void,
): Promise<HostPort> {
  return new Promise((resolve, reject) => {
    const failed = (error: Error): void => {
      const taken = systemErrorCode(error) === "EADDRINUSE";
      reject(
        new ZenithError(
          taken ? "unavailable" : "io",
          `could not listen on ${formatHostPort(address)}: ${
            taken ? "the port is taken" : errorMessage(error)
          }`,
          {
            cause: error,
            ...(taken ? { hint: "stop the process that listens there or take another port" } : {}),
          },
        ),
      );
    };
    server.once("error", failed);
    server.listen({ ...address }, () => {
      server.off("error", failed);
      server.on("error", onError);
      resolve({ host: address.host, port: (server.address() as AddressInfo).port });
    });
  });
}
