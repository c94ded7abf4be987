/** Finds free ports, and names the process that holds a taken one. */
import { randomInt } from "node:crypto";
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { connect, createServer } from "node:net";
import { basename } from "node:path";
import { systemErrorCode, ZenithError } from "../common/errors.ts";
import type { HostPort } from "../common/host_port.ts";

/**
 * The last port below the range that the kernel assigns to clients (net.ipv4.ip_local_port_range).
 * A port in that range may be taken by the time its server restarts.
 */
const LAST_PORT = 32767;
const MAX_PORT = 65535;

/** Both are part of it. */
export interface PortRange {
  readonly first: number;
  readonly last: number;
}

const COMPUTE_PORTS: PortRange = { first: 15432, last: LAST_PORT };

/** How a range is written in the environment. */
const RANGE = /^(\d{1,5})-(\d{1,5})$/;

/**
 * Returns where the ports of computes are looked for: `$ZENITH_PG_PORTS`, `FIRST-LAST`, for those
 * who open only these to the outside.
 *
 * @throws {ZenithError} `invalid_argument`
 */
export function computePortRange(env: NodeJS.ProcessEnv = process.env): PortRange {
  const given = env["ZENITH_PG_PORTS"];
  if (given === undefined || given === "") return COMPUTE_PORTS;
  const [first, last] = (RANGE.exec(given) ?? []).slice(1).map(Number);
  if (first === undefined || last === undefined || first < 1 || last > MAX_PORT || first > last) {
    throw new ZenithError("invalid_argument", `ZENITH_PG_PORTS is "${given}": expected FIRST-LAST`, {
      hint: `for example ${COMPUTE_PORTS.first}-${COMPUTE_PORTS.last}, its default`,
    });
  }
  return { first, last };
}

/**
 * Returns a random port of the range's lower half to begin the search at. Otherwise, commands of
 * other environments that run at the same time could find the same port.
 */
export function randomFirstPort(): number {
  const { first, last } = computePortRange();
  return randomInt(first, Math.floor((first + last) / 2) + 1);
}

/** Whether a server could listen on that port now. */
export async function isPortFree(port: number, host = "127.0.0.1"): Promise<boolean> {
  return await tryListening({ host, port }) === undefined;
}

/**
 * @returns why a server could not listen there now, as a predicate that follows the address in a
 *   message; undefined when it could
 */
export async function whyNotFree(address: HostPort): Promise<string | undefined> {
  const error = await tryListening(address);
  if (error === undefined) return undefined;
  switch (systemErrorCode(error)) {
    case "EADDRINUSE":
      return `is in use by ${listenerOn(address.port) ?? "another program"}`;
    case "EADDRNOTAVAIL":
      return "is not an address of this machine";
    default:
      return `can't be listened on: ${error.message}`;
  }
}

/** Whether a server listens there. Asks without taking the port, even for a moment. */
export function isAnswering({ host, port }: HostPort): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host, port });
    socket.on("error", () => resolve(false));
    socket.on("connect", () => {
      socket.destroy();
      resolve(true);
    });
  });
}

function tryListening({ host, port }: HostPort): Promise<Error | undefined> {
  return new Promise((resolve) => {
    const probe = createServer();
    probe.on("error", resolve);
    probe.listen({ port, host, exclusive: true }, () => probe.close(() => resolve(undefined)));
  });
}

/** How much of a command line to show. */
const COMMAND_MAX_LENGTH = 60;

/**
 * Describes the process that listens on that port, with its command line; undefined when its
 * process can't be seen.
 */
function listenerOn(port: number): string | undefined {
  const sockets = listeningSockets(port);
  for (const pid of readOr([], () => readdirSync("/proc")).filter((name) => /^\d+$/.test(name))) {
    const directory = `/proc/${pid}/fd`;
    const holds = readOr([], () => readdirSync(directory))
      .some((fd) => sockets.has(readOr("", () => readlinkSync(`${directory}/${fd}`))));
    if (!holds) continue;
    const [program = "", ...args] = readOr("", () => readFileSync(`/proc/${pid}/cmdline`, "utf8")).split(
      "\0",
    );
    const command = [basename(program), ...args].join(" ").trim();
    const shown = command.length > COMMAND_MAX_LENGTH ? `${command.slice(0, COMMAND_MAX_LENGTH)}…` : command;
    return `process ${pid} (${shown})`;
  }
  return undefined;
}

/** The state TCP_LISTEN in `/proc/net/tcp`. */
const LISTENING = "0A";

/** The sockets that listen on that port at any address, as `/proc/<pid>/fd` names them. */
function listeningSockets(port: number): Set<string> {
  const wanted = port.toString(16).toUpperCase().padStart(4, "0");
  const found = new Set<string>();
  for (const table of ["/proc/net/tcp", "/proc/net/tcp6"]) {
    for (const line of readOr("", () => readFileSync(table, "utf8")).split("\n")) {
      // Fields: slot, local and remote address, state, queues, timer, retransmits, user, timeout,
      // inode: proc_net_tcp(5).
      const [, local, , state, , , , , , inode] = line.trim().split(/\s+/);
      if (state === LISTENING && local?.endsWith(`:${wanted}`)) found.add(`socket:[${inode}]`);
    }
  }
  return found;
}

/** Returns `otherwise` when a read fails: processes end, and those of other users can't be read. */
function readOr<T>(otherwise: T, read: () => T): T {
  try {
    return read();
  } catch {
    return otherwise;
  }
}

/**
 * Finds the lowest port of a range that is neither in `taken` nor in use on this machine.
 *
 * @throws {ZenithError} `unavailable` when there is none
 */
export async function allocatePort(
  taken: ReadonlySet<number>,
  { first, last }: PortRange,
  host?: string,
): Promise<number> {
  for (let port = first; port <= last; port++) {
    if (!taken.has(port) && await isPortFree(port, host)) return port;
  }
  throw new ZenithError("unavailable", `no free port between ${first} and ${last}`);
}

/** Ports from one up. They stay below the kernel's range, unless the first is beyond that. */
export function portsFrom(first: number): PortRange {
  return { first, last: first <= LAST_PORT ? LAST_PORT : MAX_PORT };
}
