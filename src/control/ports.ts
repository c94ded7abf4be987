/** Finds free ports, and names the process that holds a taken one. */
import { randomInt } from "node:crypto";
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { connect, createServer } from "node:net";
import { basename } from "node:path";
import { systemErrorCode, ZenithError } from "../common/errors.ts";
import type { HostPort } from "../common/host_port.ts";

/** The first port to try for a compute. */
const COMPUTE_FIRST_PORT = 15432;

/**
 * The last port below the range that the kernel assigns to clients (net.ipv4.ip_local_port_range).
 * A port in that range may be taken by the time its server restarts.
 */
const LAST_PORT = 32767;
const MAX_PORT = 65535;

/** Where the search for the port of a throw-away branch's compute begins: in this range. */
const RANDOM_FIRST_PORT = 16_000;
const RANDOM_LAST_FIRST_PORT = 32_000;

/**
 * Returns a random port to begin the search at. Otherwise, commands of other environments that run
 * at the same time could find the same port.
 */
export function randomFirstPort(): number {
  return randomInt(RANDOM_FIRST_PORT, RANDOM_LAST_FIRST_PORT);
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
 * Finds the lowest port from `first` up that is neither in `taken` nor in use on this machine.
 *
 * @throws {ZenithError} `unavailable` when there is none
 */
export async function allocatePort(
  taken: ReadonlySet<number>,
  first = COMPUTE_FIRST_PORT,
  host?: string,
): Promise<number> {
  // Stop below the kernel's range, unless the caller has chosen to start above it.
  const last = first <= LAST_PORT ? LAST_PORT : MAX_PORT;
  for (let port = first; port <= last; port++) {
    if (!taken.has(port) && await isPortFree(port, host)) return port;
  }
  throw new ZenithError("unavailable", `no free port between ${first} and ${last}`);
}
