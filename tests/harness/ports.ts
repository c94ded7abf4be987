import { randomInt } from "node:crypto";
import { isPortFree } from "../../src/control/ports.ts";

/** Below the range that the kernel takes outgoing connections' ports from, so that none is lost between choice and use. */
const FIRST = 20_000;
const LAST = 30_000;

const given = new Set<number>();

/** A port that nobody uses now, and that this process has not given out before. */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = randomInt(FIRST, LAST);
    if (given.has(port) || !await isPortFree(port)) continue;
    given.add(port);
    return port;
  }
}
