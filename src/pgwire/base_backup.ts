/**
 * Takes a base backup over the replication protocol ("Streaming Replication Protocol",
 * BASE_BACKUP).
 */
import { ZenithError } from "../common/errors.ts";
import { type Lsn, parseLsn } from "../common/lsn.ts";
import type { PgClient } from "./client.ts";
import { ProtocolError } from "./sqlstate.ts";

// Tags of the messages that a server of PostgreSQL 15 or later sends.
const NEW_ARCHIVE = "n".charCodeAt(0);
const MANIFEST = "m".charCodeAt(0);
const DATA = "d".charCodeAt(0);
const PROGRESS = "p".charCodeAt(0);

/** From this major on, messages have tags and archives have ends. */
const TAGGED_FROM = 15;

/** The end of an archive, which older servers leave to their client. */
const ARCHIVE_END = new Uint8Array(1024);

/** The major of a server that has reported its version. @throws {ZenithError} `protocol` */
export function serverMajor(client: PgClient): number {
  const version = client.parameters.get("server_version") ?? "";
  const major = Number.parseInt(version, 10);
  if (major > 0) return major;
  throw new ProtocolError(`the server says that its version is "${version}"`);
}

/** Receives the archives of a backup, one after the other. */
export interface BackupHandler {
  /** @param tablespace its OID, or null for the data directory itself */
  archive(tablespace: number | null): void;
  /** Gets the next bytes of a tar, which are valid until it returns. */
  data(bytes: Uint8Array): void;
  /** Resolves when more may come. */
  ready(): Promise<void>;
}

/**
 * Runs BASE_BACKUP with all WAL that the backup needs.
 *
 * @param client a connection with `replication: true`
 * @param label names the backup at the server
 * @throws {ZenithError} `protocol`; what the server reports, and what `handler` throws
 */
export async function takeBaseBackup(
  client: PgClient,
  label: string,
  handler: BackupHandler,
): Promise<void> {
  if (!/^[\w ]{1,60}$/.test(label)) throw new ZenithError("invalid_argument", `"${label}" is no label`);
  if (serverMajor(client) < TAGGED_FROM) await takeUntagged(client, label, handler);
  else await takeTagged(client, label, handler);
}

/**
 * Begins a base backup, which makes the server write an online checkpoint and begin a new WAL
 * segment, and cuts the connection: nobody reads the backup itself.
 *
 * @param client a connection with `replication: true`
 * @returns where the checkpoint's replay starts
 * @throws {ZenithError} `protocol`; what the server reports
 */
export async function checkpointByBaseBackup(client: PgClient, label: string): Promise<Lsn> {
  const command = serverMajor(client) < TAGGED_FROM
    ? `BASE_BACKUP LABEL '${label}' FAST NOWAIT NOVERIFY_CHECKSUMS`
    : `BASE_BACKUP (LABEL '${label}', CHECKPOINT 'fast', WAIT false, VERIFY_CHECKSUMS false, MANIFEST 'no')`;
  const [begun] = await client.resultsBeforeCopy(command);
  return parseLsn(begun!.rows[0]![0]!);
}

async function takeTagged(client: PgClient, label: string, handler: BackupHandler): Promise<void> {
  const command =
    `BASE_BACKUP (LABEL '${label}', CHECKPOINT 'fast', WAL true, TABLESPACE_MAP true, MANIFEST 'no')`;
  for await (const message of client.copyOut(command)) {
    switch (message[0]) {
      case NEW_ARCHIVE:
        handler.archive(tablespaceOf(message));
        break;
      case DATA:
        handler.data(message.subarray(1));
        break;
      case MANIFEST:
      case PROGRESS:
        break;
      default:
        throw new ProtocolError(`unknown message of a base backup: tag ${message[0]}`);
    }
    await handler.ready();
  }
}

/** Without tags, nothing tells where one archive ends and the next one begins. */
async function takeUntagged(client: PgClient, label: string, handler: BackupHandler): Promise<void> {
  handler.archive(null);
  const command = `BASE_BACKUP LABEL '${label}' FAST WAL TABLESPACE_MAP MANIFEST 'no'`;
  for await (const bytes of client.copyOut(command)) {
    handler.data(bytes);
    await handler.ready();
  }
  handler.data(ARCHIVE_END);
}

/** The archive's name is `base.tar` or `<oid>.tar`, and ends with a zero. */
function tablespaceOf(message: Uint8Array): number | null {
  const name = new TextDecoder().decode(message.subarray(1, message.indexOf(0, 1)));
  if (name === "base.tar") return null;
  const oid = /^([1-9]\d{0,9})\.tar$/.exec(name)?.[1];
  if (oid === undefined) throw new ProtocolError(`unknown archive of a base backup: "${name}"`);
  return Number(oid);
}
