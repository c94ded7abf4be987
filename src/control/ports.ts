import { createServer } from "node:net";
import { ZenithError } from "../common/errors.ts";

/** The first port that computes are given, above PostgreSQL's own 5432. */
export const COMPUTE_FIRST_PORT = 55432;

const LAST_PORT = 65535;

/** Whether nothing listens on that port of the local host now. */
export function isPortFree(port: number, host = "127.0.0.1"): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = createServer();
    probe.on("error", () => resolve(false));
    probe.listen({ port, host, exclusive: true }, () => probe.close(() => resolve(true)));
  });
}

/**
 * The lowest port from {@link COMPUTE_FIRST_PORT} up that is neither in `taken` nor in use on this machine.
 *
 * @throws {ZenithError} `unavailable` when there is none
 */
export async function allocatePort(taken: ReadonlySet<number>, first = COMPUTE_FIRST_PORT): Promise<number> {
  for (let port = first; port <= LAST_PORT; port++) {
    if (!taken.has(port) && await isPortFree(port)) return port;
  }
  throw new ZenithError("unavailable", `no free port between ${first} and ${LAST_PORT}`);
}
