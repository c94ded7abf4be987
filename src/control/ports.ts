/** Finds free ports, and says who holds one that is not free. */
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { createServer } from "node:net";
import { basename } from "node:path";
import { systemErrorCode, ZenithError } from "../common/errors.ts";
import type { HostPort } from "../common/host_port.ts";

/** The first port that computes are given. */
const COMPUTE_FIRST_PORT = 15432;

/**
 * From the next one on, the kernel gives ports to clients (net.ipv4.ip_local_port_range): one that
 * is free today may be anybody's when its server is started again.
 */
const LAST_PORT = 32767;
const MAX_PORT = 65535;

/** Whether a server could listen there now. */
export async function isPortFree(port: number, host = "127.0.0.1"): Promise<boolean> {
  return await tryListening({ host, port }) === undefined;
}

/**
 * @returns why a server could not listen there now, to be said of the address; undefined when it
 *   could
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

function tryListening({ host, port }: HostPort): Promise<Error | undefined> {
  return new Promise((resolve) => {
    const probe = createServer();
    probe.on("error", resolve);
    probe.listen({ port, host, exclusive: true }, () => probe.close(() => resolve(undefined)));
  });
}

/** How much of a command line is enough to name a program. */
const COMMAND_MAX_LENGTH = 60;

/**
 * The process that listens on that port, with its command line; undefined when it is not for us to
 * see.
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

/** State of a socket in `/proc/net/tcp`: TCP_LISTEN. */
const LISTENING = "0A";

/** The sockets that listen on that port at any address, as `/proc/<pid>/fd` names them. */
function listeningSockets(port: number): Set<string> {
  const wanted = port.toString(16).toUpperCase().padStart(4, "0");
  const found = new Set<string>();
  for (const table of ["/proc/net/tcp", "/proc/net/tcp6"]) {
    for (const line of readOr("", () => readFileSync(table, "utf8")).split("\n")) {
      // Slot, local and remote address, state, queues, timer, retransmits, user, timeout, inode:
      // proc_net_tcp(5).
      const [, local, , state, , , , , , inode] = line.trim().split(/\s+/);
      if (state === LISTENING && local?.endsWith(`:${wanted}`)) found.add(`socket:[${inode}]`);
    }
  }
  return found;
}

/** Processes end, and those of other users are closed to us. */
function readOr<T>(otherwise: T, read: () => T): T {
  try {
    return read();
  } catch {
    return otherwise;
  }
}

/**
 * The lowest port from {@link COMPUTE_FIRST_PORT} up that is neither in `taken` nor in use on this
 * machine.
 *
 * @throws {ZenithError} `unavailable` when there is none
 */
export async function allocatePort(
  taken: ReadonlySet<number>,
  first = COMPUTE_FIRST_PORT,
  host?: string,
): Promise<number> {
  // The kernel gives out what lies between; a caller that begins above chose to.
  const last = first <= LAST_PORT ? LAST_PORT : MAX_PORT;
  for (let port = first; port <= last; port++) {
    if (!taken.has(port) && await isPortFree(port, host)) return port;
  }
  throw new ZenithError("unavailable", `no free port between ${first} and ${last}`);
}
