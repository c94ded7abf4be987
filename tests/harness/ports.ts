import { randomInt } from "node:crypto";
import { isPortFree } from "../../src/control/ports.ts";

/** Below the range that the kernel takes outgoing connections' ports from, so that none is lost between choice and use. */
const FIRST = 20_000;
const LAST = 30_000;

/** `$ZENITH_TEST_PORTS`, `FIRST-END`: the part of the range that is this process's own when others run beside it. */
function ownPorts(): readonly [first: number, end: number] {
  const given = process.env.ZENITH_TEST_PORTS;
  if (given === undefined) return [FIRST, LAST];
  const [first, end] = given.split("-").map(Number);
  if (!Number.isInteger(first) || !Number.isInteger(end) || first! >= end!) {
    throw new Error(`ZENITH_TEST_PORTS: "${given}" is not FIRST-END`);
  }
  return [first!, end!];
}

const [first, end] = ownPorts();
const given = new Set<number>();

/** A port that nobody uses now, and that this process has not given out before. */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = randomInt(first, end);
    if (given.has(port) || !await isPortFree(port)) continue;
    given.add(port);
    return port;
  }
}
