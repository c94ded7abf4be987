/** Lets calls that follow each other within a moment share a connection. */
import { formatHostPort } from "../common/host_port.ts";
import type { PgClient } from "../pgwire/client.ts";
import { connectServer, type ServerAddress, type ServerRole } from "./connect.ts";

/** How long an unused connection waits for the next call. */
const IDLE_MS = 500;

export interface SharedConnectOptions {
  readonly applicationName: string;
  /** Aborting it cuts the connection while `use` runs, or is being connected. */
  readonly signal?: AbortSignal | undefined;
}

/** A connection, and what cuts it. */
interface Line {
  readonly client: PgClient;
  readonly cut: AbortController;
}

interface IdleLine extends Line {
  readonly timer: NodeJS.Timeout;
}

const idleLines = new Map<string, IdleLine[]>();

/**
 * Runs `use` with a connection to a server: one that an earlier call has just left, or a new one.
 * Calls at the same time have different connections.
 *
 * @param use must have awaited its commands when it settles
 * @throws {ZenithError} as {@link connectServer}, and what `use` throws
 */
export async function withConnection<T>(
  role: ServerRole,
  address: ServerAddress,
  { applicationName, signal }: SharedConnectOptions,
  use: (client: PgClient) => Promise<T>,
): Promise<T> {
  signal?.throwIfAborted();
  const who = `${applicationName} ${address.credentials?.tokenFile}`;
  const key = `${role} ${formatHostPort(address)} ${address.tenant} ${who}`;
  const idle = takeIdle(key);
  const cut = idle?.cut ?? new AbortController();
  const abort = (): void => cut.abort(signal!.reason);
  signal?.addEventListener("abort", abort);
  try {
    const client = idle?.client ??
      await connectServer(role, address, { applicationName, signal: cut.signal });
    try {
      return await use(client);
    } finally {
      if (!client.closed) leaveIdle(key, { client, cut });
    }
  } finally {
    signal?.removeEventListener("abort", abort);
  }
}

/**
 * Closes the connections that wait for a next call: whoever calls next may be somebody else, with
 * another token in the same file.
 */
export function closeIdleConnections(): void {
  for (const { client, timer } of [...idleLines.values()].flat()) {
    clearTimeout(timer);
    void client.close();
  }
  idleLines.clear();
}

function takeIdle(key: string): Line | undefined {
  const lines = idleLines.get(key) ?? [];
  for (let line = lines.pop(); line !== undefined; line = lines.pop()) {
    clearTimeout(line.timer);
    if (!line.client.closed) return line;
  }
  return undefined;
}

function leaveIdle(key: string, line: Line): void {
  const lines = idleLines.get(key) ?? [];
  idleLines.set(key, lines);
  const idle: IdleLine = {
    ...line,
    timer: setTimeout(() => {
      lines.splice(lines.indexOf(idle), 1);
      void line.client.close();
    }, IDLE_MS),
  };
  lines.push(idle);
}
