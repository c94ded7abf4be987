/** Parses and prints TCP addresses: `127.0.0.1:64000`, `[::1]:64000`. */
import { ZenithError } from "./errors.ts";

/** A TCP address. `host` is a name, an IPv4 address or an IPv6 address without brackets. */
export interface HostPort {
  readonly host: string;
  readonly port: number;
}

/**
 * Parses `host:port`, `[::1]:port` or `:port`, which means 127.0.0.1, never all interfaces.
 *
 * @throws {ZenithError} `invalid_argument`
 */
export function parseHostPort(text: string): HostPort {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:\s]*)):(\d{1,5})$/.exec(text);
  const port = match === null ? Number.NaN : Number(match[3]);
  if (match === null || port > 65535) {
    throw new ZenithError("invalid_argument", `"${text}" is not an address: expected host:port`);
  }
  return { host: match[1] ?? (match[2] === "" ? "127.0.0.1" : match[2]), port };
}

/**
 * Whether only this machine reaches what listens on the host. Of the names, `localhost` alone
 * counts.
 */
export function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || /^(?:::ffff:)?127(?:\.\d{1,3}){3}$/.test(host);
}

export function formatHostPort(address: HostPort): string {
  return address.host.includes(":") ? `[${address.host}]:${address.port}` : `${address.host}:${address.port}`;
}
