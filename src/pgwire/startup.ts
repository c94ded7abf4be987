/** Parses the first message of a connection: what the client asks for before it authenticates. */
import { ByteCursor } from "./byte_cursor.ts";
import {
  CANCEL_REQUEST_CODE,
  GSSENC_REQUEST_CODE,
  PROTOCOL_VERSION_3_0,
  SSL_REQUEST_CODE,
} from "./message_types.ts";
import { ProtocolError, SQLSTATE_FEATURE_NOT_SUPPORTED, SQLSTATE_INVALID_AUTHORIZATION } from "./sqlstate.ts";

/**
 * Parameters with this prefix are protocol extensions. A server reports the ones that it does not
 * know.
 */
const EXTENSION_PREFIX = "_pq_.";

type Request = { kind: "ssl" } | { kind: "gssenc" } | {
  kind: "cancel";
  processId: number;
  secretKey: number;
};

/** A startup packet whose `options` nobody has looked into. */
interface RawStartup {
  kind: "startup";
  /** `user`, `database`, `application_name`, `replication`, … as the client sent them. */
  params: Map<string, string>;
  /**
   * Set when the client asked for more than protocol 3.0: the extensions that the server refuses by
   * name.
   */
  negotiate: string[] | undefined;
}

export type StartupPacket =
  | Request
  | (RawStartup & {
    /** What `options` sets by `-c name=value` and `--name=value`. */
    options: Map<string, string>;
  });

/** @throws {ProtocolError} when the packet is malformed or has another major protocol version */
export function parseStartupPacket(bytes: Uint8Array, off: number, len: number): StartupPacket {
  const packet = parseRawStartup(bytes, off, len);
  if (packet.kind !== "startup") return packet;
  return { ...packet, options: parseCommandLineOptions(packet.params.get("options") ?? "") };
}

/** Like {@link parseStartupPacket}, for who passes the options on. @throws {ProtocolError} */
export function parseRawStartup(bytes: Uint8Array, off: number, len: number): Request | RawStartup {
  const cursor = new ByteCursor("startup packet", bytes, off, len);
  const code = cursor.int32();
  if (code === SSL_REQUEST_CODE || code === GSSENC_REQUEST_CODE) {
    cursor.end();
    return { kind: code === SSL_REQUEST_CODE ? "ssl" : "gssenc" };
  }
  if (code === CANCEL_REQUEST_CODE) {
    const processId = cursor.int32();
    const secretKey = cursor.int32();
    cursor.end();
    return { kind: "cancel", processId, secretKey };
  }
  const major = code >>> 16;
  const minor = code & 0xffff;
  if (major !== PROTOCOL_VERSION_3_0 >> 16) {
    throw new ProtocolError(
      `unsupported frontend protocol ${major}.${minor}: server supports 3.0`,
      SQLSTATE_FEATURE_NOT_SUPPORTED,
    );
  }
  const params = new Map<string, string>();
  const extensions: string[] = [];
  for (let name = cursor.cstring(); name !== ""; name = cursor.cstring()) {
    const value = cursor.cstring();
    if (name.startsWith(EXTENSION_PREFIX)) extensions.push(name);
    else params.set(name, value);
  }
  cursor.end();
  const user = params.get("user");
  if (user === undefined || user === "") {
    throw new ProtocolError("no user name specified in startup packet", SQLSTATE_INVALID_AUTHORIZATION);
  }
  if (!params.get("database")) params.set("database", user);
  return {
    kind: "startup",
    params,
    negotiate: minor > 0 || extensions.length > 0 ? extensions : undefined,
  };
}

/**
 * Reads the `options` parameter as a Postgres backend reads its command line. Words are split at
 * white space, and a backslash takes the next character literally. `-c name=value`, `-cname=value`
 * and `--name=value` set a value (utils/init/postinit.c pg_split_opts, tcop/postgres.c
 * process_postgres_switches). A dash in a name stands for an underscore.
 *
 * @throws {ProtocolError} on any other switch
 */
export function parseCommandLineOptions(text: string): Map<string, string> {
  const options = new Map<string, string>();
  const words = splitWords(text);
  for (let i = 0; i < words.length; i++) {
    const word = words[i];
    let assignment: string | undefined;
    if (word === "-c") assignment = words[++i];
    else if (word.startsWith("--") || word.startsWith("-c")) assignment = word.slice(2);
    const equals = assignment?.indexOf("=") ?? -1;
    if (assignment === undefined || equals <= 0) {
      throw new ProtocolError(
        `invalid startup option "${word}": expected -c name=value or --name=value`,
        "42601",
      );
    }
    options.set(assignment.slice(0, equals).replaceAll("-", "_"), assignment.slice(equals + 1));
  }
  return options;
}

/** Writes `options` so that {@link parseCommandLineOptions} and Postgres can read them back. */
export function formatCommandLineOptions(options: Iterable<readonly [string, string]>): string {
  const words: string[] = [];
  for (const [name, value] of options) {
    words.push(`-c ${name}=${value.replace(/[\s\\]/g, (character) => `\\${character}`)}`);
  }
  return words.join(" ");
}

function splitWords(text: string): string[] {
  const words: string[] = [];
  let word = "";
  let inWord = false;
  for (let i = 0; i < text.length; i++) {
    const character = text[i];
    if (/\s/.test(character)) {
      if (inWord) words.push(word);
      word = "";
      inWord = false;
      continue;
    }
    inWord = true;
    if (character === "\\" && i + 1 < text.length) word += text[++i];
    else if (character !== "\\") word += character;
  }
  if (inWord) words.push(word);
  return words;
}
