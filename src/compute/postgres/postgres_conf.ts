/**
 * A compute's configuration. `compute.conf`, beside the data directory, says who the compute is and
 * where it listens. That goes on Postgres's command line. The configuration files in the data
 * directory are entirely the user's, because every backup and standby takes them along.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { nodeDisk, replaceFileSync } from "../../common/disk.ts";
import { errorMessage, ioError, ZenithError } from "../../common/errors.ts";
import { ForeignDirectory, readForeignFile } from "../../common/foreign_directory.ts";
import { formatHostPort, type HostPort, parseHostPort } from "../../common/host_port.ts";
import { parseTenantId, parseTimelineId, type TenantId, type TimelineId } from "../../common/id.ts";
import { formatLsn, type Lsn, parseLsn } from "../../common/lsn.ts";
import type { ComputePaths } from "../../common/paths.ts";
import { ZENITH_SUPERUSER } from "../../pg_install/initdb.ts";
import type { PgUser } from "../../pg_install/pg_user.ts";
import type { Credentials, ServerAddress } from "../../protocol/connect.ts";

export interface ComputeIdentity {
  readonly tenant: TenantId;
  readonly timeline: TimelineId;
  readonly pageServer: ServerAddress;
  /** The safekeepers that make its commits durable. If there are none, the page server does. */
  readonly walAcceptors: readonly ServerAddress[];
  readonly port: number;
}

/**
 * Settings for the command line of every compute. There, neither SQL nor a configuration file can
 * change them, and no backup takes them along.
 *
 * The data directory is a cache, which the next start fetches anew, so it needs no fsync and no
 * full-page images. After a crash, Postgres must not recover from a data directory that has torn
 * pages and no full-page images: it exits, and is started afresh. The slot of the party that makes
 * commits durable must never be invalidated, because commits would then wait for ever.
 */
export function forcedSettings(major: number): Record<string, string> {
  return {
    fsync: "off",
    full_page_writes: "off",
    restart_after_crash: "off",
    max_slot_wal_keep_size: "-1",
    ...(major < IDLE_SLOT_TIMEOUT_FROM ? {} : { idle_replication_slot_timeout: "0" }),
  };
}

/** From this major on, a slot is also invalidated when nobody has used it for some time. */
const IDLE_SLOT_TIMEOUT_FROM = 18;

/** From this major on, Postgres can hold a slot's changes back until standbys have them. */
const STANDBY_SLOTS_FROM = 17;
const STANDBY_SLOTS = "synchronized_standby_slots";

/**
 * Returns settings for the command line that make logical slots with `failover` send only
 * acknowledged changes.
 *
 * @param slot the slot of the party that acknowledges them; null when there is none
 * @param settings the user's settings, whose other standbys are waited for as well
 */
export function standbySlots(major: number, slot: string | null, settings: Settings): Record<string, string> {
  if (major < STANDBY_SLOTS_FROM || slot === null) return {};
  const others = settings.get(STANDBY_SLOTS) ?? "";
  return { [STANDBY_SLOTS]: others.trim() === "" ? slot : `${others}, ${slot}` };
}

const TIMELINE_SETTING = "zenith.zenith_timeline";

/** The LSN at which a compute reads the past. Not set for a compute that writes to its branch. */
const READ_ONLY_LSN_SETTING = "zenith.read_only_lsn";

/**
 * Returns the settings of a compute that reads the past at `lsn`. It can change nothing, and if it
 * did, it would wait for nobody.
 */
export function readOnlySettings(lsn: Lsn): Record<string, string> {
  return {
    [READ_ONLY_LSN_SETTING]: formatLsn(lsn),
    default_transaction_read_only: "on",
    // Its WAL is not the branch's. A segment that it archived would have the same name as one of
    // the branch.
    archive_mode: "off",
    // A subscription would take the branch's rows from its publisher.
    max_logical_replication_workers: "0",
    synchronous_standby_names: "",
  };
}

/**
 * Returns the LSN at which a running compute reads the past, from the command line that Postgres
 * records in its data directory. Null when the compute writes.
 */
export function readOnlyLsn(pgdata: string): Lsn | null {
  const found = startedWith(pgdata, READ_ONLY_LSN_SETTING, "[0-9A-F/]+");
  return found === null ? null : parseLsn(found);
}

/** Returns the value of one of our settings on the command line of the last start. */
function startedWith(pgdata: string, setting: string, pattern: string): string | null {
  const path = join(pgdata, "postmaster.opts");
  if (!existsSync(path)) return null;
  try {
    return new RegExp(`"${setting}=(${pattern})"`).exec(readText(path))?.[1] ?? null;
  } catch (error) {
    throw error instanceof ZenithError ? error : ioError("read", path, error);
  }
}

/** The bootstrap superuser of a cluster that was imported. */
const SUPERUSER_SETTING = "zenith.superuser";
/** Names that need no quotes on a command line. Others are left to the user to type. */
const PLAIN_ROLE = "[A-Za-z0-9_.@-]{1,63}";

/** Returns the setting that tells {@link superuserOf} the name of the bootstrap superuser. */
export function superuserSetting(role: string): Record<string, string> {
  const isWorthIt = role !== ZENITH_SUPERUSER && new RegExp(`^${PLAIN_ROLE}$`).test(role);
  return isWorthIt ? { [SUPERUSER_SETTING]: role } : {};
}

/** The role that sessions on a compute take when they name none: the bootstrap superuser. */
export function superuserOf(pgdata: string): string {
  return startedWith(pgdata, SUPERUSER_SETTING, PLAIN_ROLE) ?? ZENITH_SUPERUSER;
}

/**
 * With a longer directory, socket paths, which end in `/.s.PGSQL.65535`, don't fit into
 * `sockaddr_un.sun_path`.
 */
const SOCKET_DIR_MAX_LENGTH = 107 - "/.s.PGSQL.65535.lock".length;

/** Whether Postgres can have its Unix socket in this directory. */
export function fitsSocketPath(socketDir: string): boolean {
  return Buffer.byteLength(socketDir) <= SOCKET_DIR_MAX_LENGTH;
}

/** A limit for settings files: they consist of lines that people write. */
const SETTINGS_FILE_MAX_BYTES = 1 << 20;

/**
 * Reads a file that a tenant may have replaced with anything: a link to a file that only root may
 * read, or a pipe.
 */
function readText(path: string): string {
  return new TextDecoder().decode(readForeignFile(path, SETTINGS_FILE_MAX_BYTES));
}

/** The names, in lower case, of a compute's own settings, which its branches do not inherit. */
const OWN_SETTING = /^(?:port|listen_addresses|unix_socket_directories|zenith\..*)$/;

/** Returns the `compute.conf` of a new compute. */
export function initialComputeConf(compute: ComputeIdentity, socketDir: string, listen: string): string {
  const acceptors = compute.walAcceptors.map(formatHostPort).join(",");
  const sockets = fitsSocketPath(socketDir) ? socketDir : "";
  return `# Made by "zenith pg create". Yours to edit while this Postgres is stopped; written like postgresql.conf.

listen_addresses = ${quoteSetting(listen)}
port = ${compute.port}
unix_socket_directories = ${quoteSetting(sockets)}

# Which data this is. A majority of the safekeepers in zenith.wal_acceptors (host:port,...) makes a commit durable;
# with none the page server does.
zenith.zenith_tenant = '${compute.tenant}'
${TIMELINE_SETTING} = '${compute.timeline}'
zenith.page_server_connstring = ${quoteSetting(formatConnstring(compute.pageServer))}
zenith.wal_acceptors = ${quoteSetting(acceptors)}
`;
}

/** Returns the `postgresql.conf` of a new compute. */
export function initialPostgresConf(): string {
  return `# Made by "zenith pg create". Yours to edit: every start keeps it.
# Port, addresses and sockets are in compute.conf, beside this directory.

timezone = 'UTC'
log_timezone = 'UTC'
`;
}

/** Returns the `pg_hba.conf` of a new compute. */
export function initialHbaConf(): string {
  return `# Made by "zenith pg create". Yours to edit: every start keeps it.
# The supervisor has rules of its own, which are read first.
local  all          all                scram-sha-256
host   all          all  127.0.0.1/32  scram-sha-256
host   all          all  ::1/128       scram-sha-256
local  replication  all                scram-sha-256
host   replication  all  127.0.0.1/32  scram-sha-256
host   replication  all  ::1/128       scram-sha-256
`;
}

/** Settings by lower-case name. The last line that sets one counts. */
export type Settings = ReadonlyMap<string, string>;

/**
 * Parses lines of `name = value` as `guc-file.l` does: the `=` is optional, values may be quoted,
 * `#` begins a comment. `include` directives are not followed.
 */
export function parseSettings(text: string, into: Map<string, string> = new Map()): Settings {
  for (const line of text.split("\n")) {
    const setting = parseSetting(line);
    if (setting !== undefined) into.set(setting.name.toLowerCase(), setting.value);
  }
  return into;
}

/**
 * Parses one line, partly character by character: the file is a tenant's, and a regular expression
 * for the whole line would take time that grows with the square of its length, or worse.
 */
function parseSetting(line: string): { name: string; value: string } | undefined {
  const name = /^\s*([A-Za-z_][\w$.]*)/.exec(line);
  if (name === null) return undefined;
  let rest = line.slice(name[0].length).trimStart();
  if (rest.startsWith("=")) rest = rest.slice(1).trimStart();
  const valueLength = rest.startsWith("'") ? quotedLength(rest) : /^[^\s#']*/.exec(rest)![0].length;
  const after = rest.slice(valueLength).trimStart();
  if (valueLength === 0 || after !== "" && !after.startsWith("#")) return undefined;
  const value = rest.slice(0, valueLength);
  return { name: name[1], value: value.startsWith("'") ? unquote(value) : value };
}

/**
 * Returns the length of the quoted value at the start of `text`, including the quotes. 0 when the
 * closing quote is missing.
 */
function quotedLength(text: string): number {
  for (let at = 1; at < text.length; at++) {
    if (text[at] === "\\") at++;
    else if (text[at] === "'" && text[at + 1] === "'") at++;
    else if (text[at] === "'") return at + 1;
  }
  return 0;
}

function unquote(value: string): string {
  return value.slice(1, -1).replaceAll("''", "'").replace(/\\(.)/g, "$1");
}

/**
 * Reads `postgresql.conf`, overridden by what ALTER SYSTEM has written to `postgresql.auto.conf`.
 */
export function readSettings(pgdata: string): Settings {
  const settings = new Map<string, string>();
  for (const name of ["postgresql.conf", "postgresql.auto.conf"]) {
    const path = join(pgdata, name);
    if (name === "postgresql.auto.conf" && !existsSync(path)) continue;
    try {
      parseSettings(readText(path), settings);
    } catch (error) {
      throw error instanceof ZenithError ? error : ioError("read", path, error);
    }
  }
  return settings;
}

/**
 * Reads a compute's own settings from `compute.conf`. An older compute has them in
 * `postgresql.conf`, where they were until version 0.1.
 *
 * @throws {ZenithError} `io`
 */
export function readComputeConf(paths: ComputePaths): Settings {
  if (existsSync(paths.config)) {
    try {
      return parseSettings(readText(paths.config));
    } catch (error) {
      throw error instanceof ZenithError ? error : ioError("read", paths.config, error);
    }
  }
  return new Map([...readSettings(paths.pgdata)].filter(([name]) => OWN_SETTING.test(name)));
}

/** Returns the settings of `compute.conf` for the command line. */
export function ownSettings(settings: Settings): Record<string, string> {
  return Object.fromEntries([...settings].filter(([name]) => OWN_SETTING.test(name)));
}

/**
 * The settings that an older `pg create` wrote to `postgresql.conf` besides {@link OWN_SETTING}.
 */
const FORMER_SETTING = /^(?:fsync|full_page_writes|synchronous_standby_names)$/;
const FORMER_COMMENTS = new Set([
  "# What makes a commit durable is the page server, which follows as synchronous standby, or the safekeepers that",
  "# zenith.wal_acceptors names (host:port,...), a majority of them.",
  "# This data directory is a cache. The next start fetches it anew.",
  "# Which data this is.",
]);

/**
 * Writes an older compute's `compute.conf`, and removes those settings from its `postgresql.conf`.
 */
export function separateComputeConf(paths: ComputePaths, user: PgUser | undefined): void {
  const text = readText(join(paths.pgdata, "postgresql.conf"));
  if (!/^zenith\.zenith_tenant /m.test(text)) return;
  const own = [...readComputeConf(paths)].map(([name, value]) => `${name} = ${quoteSetting(value)}\n`);
  const kept = text.split("\n").filter((line) => {
    const name = parseSetting(line)?.name.toLowerCase() ?? "";
    return !OWN_SETTING.test(name) && !FORMER_SETTING.test(name) && !FORMER_COMMENTS.has(line);
  });
  try {
    replaceComputeConf(paths, own.join(""));
    using pgdata = ForeignDirectory.open(paths.pgdata);
    pgdata.replaceFile("postgresql.conf", new TextEncoder().encode(kept.join("\n")), CONF_MODE, user);
  } catch (error) {
    throw error instanceof ZenithError ? error : ioError("write", paths.config, error);
  }
}

function replaceComputeConf(paths: ComputePaths, text: string): void {
  replaceFileSync(nodeDisk, paths.dir, paths.config, new TextEncoder().encode(text));
}

/**
 * Moves a stopped compute to another timeline. Everything else in its files stays the same.
 *
 * @throws {ZenithError} `io`
 */
export function setTimeline(paths: ComputePaths, timeline: TimelineId, user: PgUser | undefined): void {
  separateComputeConf(paths, user);
  const lines = readText(paths.config).split("\n");
  const at = lines.findLastIndex((line) => parseSetting(line)?.name.toLowerCase() === TIMELINE_SETTING);
  lines[at] = `${TIMELINE_SETTING} = '${timeline}'`;
  try {
    replaceComputeConf(paths, lines.join("\n"));
  } catch (error) {
    throw ioError("write", paths.config, error);
  }
}

/** The mode of configuration files, which may contain passwords. */
export const CONF_MODE = 0o600;

/** @throws {ZenithError} `invalid_argument` when a compute can't run with the user's settings */
export function assertUsable(settings: Settings, file: string): void {
  if (settings.get("wal_level") === "minimal") {
    throw new ZenithError("invalid_argument", `${file}: wal_level = minimal leaves data out of the WAL`, {
      hint: "set wal_level to replica or logical",
    });
  }
}

/**
 * Reads a compute's identity from its settings.
 *
 * @throws {ZenithError} `invalid_argument`, naming the setting that is missing or wrong
 */
export function computeIdentity(settings: Settings, file: string): ComputeIdentity {
  const need = (name: string): string => {
    const value = settings.get(name);
    if (value === undefined) throw new ZenithError("invalid_argument", `${file} does not set ${name}`);
    return value;
  };
  const port = Number(need("port"));
  if (!Number.isInteger(port) || port < 1 || port > 65535) {
    throw new ZenithError("invalid_argument", `${file}: port is "${need("port")}"`);
  }
  return {
    tenant: parseTenantId(need("zenith.zenith_tenant")),
    timeline: parseTimelineId(need(TIMELINE_SETTING)),
    pageServer: parseConnstring(need("zenith.page_server_connstring"), file),
    walAcceptors: parseAcceptors(settings.get("zenith.wal_acceptors") ?? "", file),
    port,
  };
}

/** Tells a compute by what to prove itself to its servers. */
export function withCredentials(compute: ComputeIdentity, credentials: Credentials): ComputeIdentity {
  return {
    ...compute,
    pageServer: { ...compute.pageServer, credentials, tenant: compute.tenant },
    walAcceptors: compute.walAcceptors.map((address) => ({ ...address, credentials })),
  };
}

/**
 * Returns the host by which TCP clients on this machine reach a Postgres with this
 * `listen_addresses`. Undefined when they can't.
 */
export function clientHost(settings: Settings): string | undefined {
  const [first = ""] = (settings.get("listen_addresses") ?? "localhost").split(",");
  const host = first.trim();
  if (host === "") return undefined;
  return host === "*" || host === "0.0.0.0" || host === "::" || host === "localhost" ? "127.0.0.1" : host;
}

export function quoteSetting(value: string): string {
  return `'${value.replaceAll("\\", "\\\\").replaceAll("'", "''")}'`;
}

/** Several page servers are written as libpq has several hosts. */
function formatConnstring({ others = [], ...first }: ServerAddress): string {
  const all = [first, ...others];
  return `host=${all.map(({ host }) => host).join(",")} port=${all.map(({ port }) => port).join(",")}`;
}

function parseConnstring(text: string, file: string): ServerAddress {
  const hosts = (/(?:^|\s)host=(\S+)/.exec(text)?.[1] ?? "").split(",");
  const ports = (/(?:^|\s)port=([\d,]+)/.exec(text)?.[1] ?? "").split(",").map(Number);
  const isRight = hosts.every((host) => host !== "") && ports.length === hosts.length &&
    ports.every((port) => port >= 1 && port <= 65535);
  if (!isRight) {
    throw new ZenithError(
      "invalid_argument",
      `${file}: zenith.page_server_connstring is "${text}": expected "host=… port=…" as in ` +
        `"${formatConnstring({ host: "127.0.0.1", port: 64000 })}"`,
    );
  }
  const [first, ...others] = hosts.map((host, i) => ({ host, port: ports[i]! }));
  return { ...first!, ...(others.length === 0 ? {} : { others }) };
}

/**
 * Parses `host:port,host:port`. Refuses an address that occurs twice, because it would count as two
 * safekeepers.
 */
function parseAcceptors(text: string, file: string): HostPort[] {
  const parts = text.split(",").map((part) => part.trim()).filter((part) => part !== "");
  try {
    if (new Set(parts).size < parts.length) throw new ZenithError("invalid_argument", "one is named twice");
    return parts.map(parseHostPort);
  } catch (error) {
    throw new ZenithError(
      "invalid_argument",
      `${file}: zenith.wal_acceptors is "${text}": ${errorMessage(error)}`,
    );
  }
}

/** A session's user and database. The default is the superuser in `postgres`. */
export interface Session {
  readonly user?: string | undefined;
  readonly database?: string | undefined;
  /** The user's password, if it is known. */
  readonly password?: string | undefined;
}

/** Returns a URI with which any client can connect. */
export function connectionUri(address: HostPort, { user, database, password }: Session = {}): string {
  const encode = encodeURIComponent;
  const secret = password === undefined ? "" : `:${encode(password)}`;
  return `postgres://${encode(user ?? ZENITH_SUPERUSER)}${secret}@${formatHostPort(address)}/${
    encode(database ?? "postgres")
  }`;
}

/** Returns the same as libpq's environment variables. */
export function connectionEnvironment(
  address: HostPort,
  { user, database, password }: Session = {},
): Readonly<Record<string, string>> {
  return {
    PGHOST: address.host,
    PGPORT: String(address.port),
    PGUSER: user ?? ZENITH_SUPERUSER,
    PGDATABASE: database ?? "postgres",
    ...(password === undefined ? {} : { PGPASSWORD: password }),
  };
}
