/**
 * Parses and formats libpq connection strings: `host=… port=…` and `postgresql://…`
 * (libpq/fe-connect.c conninfo_parse, conninfo_uri_parse).
 */
import { ZenithError } from "../common/errors.ts";

const DEFAULT_PORT = 5432;

/** A host, a user, a timeline and its options take a few hundred characters. */
const CONNINFO_MAX_LENGTH = 8192;

/**
 * How much a client asks of TLS. `prefer`: it is used where the server has it. `require`: without
 * it nothing is sent. `verify-ca`, `verify-full`: an authority that is trusted vouches for the
 * server, the latter also for its name.
 */
export const SSL_MODES = ["disable", "prefer", "require", "verify-ca", "verify-full"] as const;
export type SslMode = typeof SSL_MODES[number];

export interface ConnInfo {
  /** A name, an address, or an absolute path: the directory of a Unix socket. */
  host: string;
  port: number;
  user: string;
  /** Defaults to the user's name. */
  database: string;
  password: string | undefined;
  /** Command line options for the server: `-c name=value …`. */
  options: string | undefined;
  applicationName: string | undefined;
  /** `replication=true` asks for a physical walsender. */
  replication: boolean;
  connectTimeoutMs: number | undefined;
  /** Undefined when the string does not say. */
  sslMode: SslMode | undefined;
  /** A file with the authorities that are trusted, in PEM; or `system`. */
  sslRootCert: string | undefined;
}

type Settings = Map<string, string>;

/**
 * Parses a connection string in either form. Settings that only matter to libpq itself are accepted
 * and dropped.
 *
 * @throws {ZenithError} `invalid_argument` when the string is malformed or asks for an unsupported
 *   feature
 */
export function parseConnInfo(text: string): ConnInfo {
  if (text.length > CONNINFO_MAX_LENGTH) {
    throw invalid(`it has ${text.length} characters, more than ${CONNINFO_MAX_LENGTH}`);
  }
  const settings = /^postgres(ql)?:\/\//.test(text) ? parseUri(text) : parseKeywords(text);
  const user = settings.get("user") ?? "postgres";
  const timeout = settings.get("connect_timeout");
  const host = settings.get("host") || settings.get("hostaddr") || "localhost";
  if (host.includes(",")) throw invalid(`several hosts are not supported: "${host}"`);
  return {
    host,
    port: parsePort(settings.get("port")),
    user,
    database: settings.get("dbname") || user,
    password: settings.get("password"),
    options: settings.get("options"),
    applicationName: settings.get("application_name"),
    replication: parseReplication(settings.get("replication")),
    connectTimeoutMs: timeout === undefined ? undefined : parseTimeout(timeout),
    sslMode: parseSslMode(settings.get("sslmode")),
    sslRootCert: settings.get("sslrootcert") || undefined,
  };
}

/** Writes the keyword form. {@link parseConnInfo} and libpq can read it back. */
export function formatConnInfo(info: Partial<ConnInfo>): string {
  const settings: [string, string | undefined][] = [
    ["host", info.host],
    ["port", info.port === undefined ? undefined : String(info.port)],
    ["user", info.user],
    ["dbname", info.database],
    ["password", info.password],
    ["options", info.options],
    ["application_name", info.applicationName],
    ["sslmode", info.sslMode],
    ["sslrootcert", info.sslRootCert],
    ["replication", info.replication ? "true" : undefined],
    [
      "connect_timeout",
      info.connectTimeoutMs === undefined ? undefined : String(Math.ceil(info.connectTimeoutMs / 1000)),
    ],
  ];
  const words: string[] = [];
  for (const [name, value] of settings) {
    if (value !== undefined) words.push(`${name}=${quoteConnInfoValue(value)}`);
  }
  return words.join(" ");
}

/** Writes a value so that {@link parseConnInfo} and libpq can read it back. */
export function quoteConnInfoValue(value: string): string {
  if (/^[^\s'\\]+$/.test(value)) return value;
  return `'${value.replace(/['\\]/g, (character) => `\\${character}`)}'`;
}

/**
 * Parses `name = value` pairs. A value is bare or in single quotes. A backslash takes the next
 * character literally.
 */
function parseKeywords(text: string): Settings {
  const settings: Settings = new Map();
  // Each pair consumes the blanks after it, so that no character is read twice.
  const pair = /([A-Za-z_]+)\s*=\s*(?:'((?:[^'\\]|\\[\s\S])*)'|((?:[^\s'\\]|\\[\s\S])*))(?=\s|$)\s*/y;
  let end = text.length - text.trimStart().length;
  while (end < text.length) {
    pair.lastIndex = end;
    const match = pair.exec(text);
    if (match === null) throw invalid(`expected name=value at character ${end + 1}`);
    settings.set(match[1], (match[2] ?? match[3]).replace(/\\([\s\S])/g, "$1"));
    end = pair.lastIndex;
  }
  return settings;
}

function parseUri(text: string): Settings {
  const settings: Settings = new Map();
  const match = /^postgres(?:ql)?:\/\/(?:([^@/?#]*)@)?([^/?#]*)(?:\/([^?#]*))?(?:\?([^#]*))?$/.exec(text);
  if (match === null) throw invalid("malformed URI");
  const [, userinfo, hostPort, database, query] = match;
  if (userinfo) {
    const colon = userinfo.indexOf(":");
    const user = colon < 0 ? userinfo : userinfo.slice(0, colon);
    if (user !== "") settings.set("user", decode(user));
    if (colon >= 0) settings.set("password", decode(userinfo.slice(colon + 1)));
  }
  if (hostPort) {
    const parts = /^(\[[^\]]+\]|[^:]*)(?::(\d*))?$/.exec(hostPort);
    if (parts === null) throw invalid("malformed host in the URI");
    const host = parts[1].startsWith("[") ? parts[1].slice(1, -1) : decode(parts[1]);
    if (host !== "") settings.set("host", host);
    if (parts[2]) settings.set("port", parts[2]);
  }
  if (database) settings.set("dbname", decode(database));
  for (const assignment of query?.split("&") ?? []) {
    if (assignment === "") continue;
    const equals = assignment.indexOf("=");
    if (equals <= 0) throw invalid("expected name=value in the URI's query");
    settings.set(decode(assignment.slice(0, equals)), decode(assignment.slice(equals + 1)));
  }
  return settings;
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw invalid("malformed percent-encoding in the URI");
  }
}

function parsePort(text: string | undefined): number {
  if (text === undefined || text === "") return DEFAULT_PORT;
  const port = Number(text);
  if (!/^\d+$/.test(text) || port < 1 || port > 65535) throw invalid(`"${text}" is not a port`);
  return port;
}

function parseSslMode(text: string | undefined): SslMode | undefined {
  if (text === undefined) return undefined;
  // The server's choice, and servers let in what is not encrypted unless they are told not to.
  if (text === "allow") return "disable";
  const mode = SSL_MODES.find((known) => known === text);
  if (mode === undefined) throw invalid(`sslmode=${text} is none of ${SSL_MODES.join(", ")}`);
  return mode;
}

function parseTimeout(text: string): number | undefined {
  if (!/^\d+$/.test(text)) throw invalid(`connect_timeout "${text}" is not a number of seconds`);
  // In libpq, zero means "wait forever". Here it means the caller's default.
  return Number(text) === 0 ? undefined : Number(text) * 1000;
}

function parseReplication(text: string | undefined): boolean {
  switch (text) {
    case undefined:
    case "false":
    case "off":
    case "no":
    case "0":
      return false;
    case "true":
    case "on":
    case "yes":
    case "1":
      return true;
    default:
      throw invalid(`replication=${text} is not supported: expected true or false`);
  }
}

/** @param what must not repeat any part of the string that may belong to a password */
function invalid(what: string): ZenithError {
  return new ZenithError("invalid_argument", `invalid connection string: ${what}`);
}
