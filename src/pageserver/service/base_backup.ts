/**
 * Answers BASE_BACKUP for pg_basebackup of every major ("Streaming Replication Protocol" in
 * PostgreSQL's documentation; src/backend/backup/basebackup_copy.c).
 *
 * While a Postgres writes to the branch, the backup begins with an online checkpoint of it, as any
 * base backup does. Recovery goes on with the branch's WAL, so a standby can start from it.
 * Otherwise the backup is a cluster that was stopped at the branch's end.
 */
import { sleep } from "../../common/sleep.ts";
import { ZenithError } from "../../common/errors.ts";
import { nextTurn } from "../../common/event_loop.ts";
import { formatLsn, type Lsn } from "../../common/lsn.ts";
import { whenPresent } from "../../pagestore/mod.ts";
import { BACKUP_POSITION_COLUMNS, BACKUP_TABLESPACE_COLUMNS } from "../../pgwire/replication_columns.ts";
import type { Session } from "../../pgwire/session.ts";
import { backupFile } from "../../postgres/cluster/backup_files.ts";
import { formatBackupManifest, ManifestFiles } from "../../postgres/cluster/backup_manifest.ts";
import { CHECKPOINT_RECORD_LENGTH } from "../../postgres/initial_segment.ts";
import { WalDecoder } from "../../postgres/wal/decoder.ts";
import { recordEndLsn } from "../../postgres/wal/page_header.ts";
import { newestTli } from "../../postgres/wal/wal_timelines.ts";
import { isOnlineCheckpoint } from "../../postgres/wal/records/xlog.ts";
import { WalRecord } from "../../postgres/wal/record.ts";
import { decodeSettings } from "../../protocol/branch_settings.ts";
import { type TarEntry, type TarHandler, TarReader } from "../../protocol/tar.ts";
import { inheritedSettings } from "../tenant/inherited_settings.ts";
import type { TenantTimelines } from "../tenant/timelines.ts";
import { segmentsBefore, WalHead } from "../tenant/wal_head.ts";
import type { RecordBoundary, Timeline } from "../timeline/timeline.ts";
import { type BaseBackupOptions, parseBaseBackup } from "./base_backup_command.ts";
import { basebackup, type OnlineStart } from "./basebackup.ts";
import type { PageServer } from "./page_server.ts";
import type { Transfer } from "./transfers.ts";
import type { Turn } from "./turns.ts";

/** From this major on, all comes in one COPY, whose messages have tags. */
const TAGGED_FROM = 15;

// Tags of the messages.
const NEW_ARCHIVE = "n".charCodeAt(0);
const MANIFEST = "m".charCodeAt(0);
const DATA = "d".charCodeAt(0);
const PROGRESS = "p".charCodeAt(0);

/** How much of an archive goes into one message, which COPY OUT must not split. */
const PIECE_BYTES = 32 << 10;
const PROGRESS_INTERVAL_MS = 1_000;

/** The checkpoint's record is on its way when the branch's Postgres says that it is done. */
const ARRIVAL_TIMEOUT_MS = 30_000;
const ARRIVAL_POLL_MS = 20;
const READ_BYTES = 256 << 10;

/** The moment stays readable while the backup is sent. */
const LEASE_MS = 10 * 60 * 1000;

/** Who may connect to a cluster whose branch has no settings yet. */
const DEFAULT_HBA = "local all all scram-sha-256\nhost all all all scram-sha-256\n";

interface Backup {
  readonly server: PageServer;
  readonly session: Session;
  readonly timelines: TenantTimelines;
  readonly timeline: Timeline;
  /** Shares the thread with other tenants. */
  readonly turn: Turn;
  /** Is told how much has been sent. */
  readonly transfer: Transfer;
}

/**
 * @param text the command
 * @param onStopped told where the backup ends, when nobody writes to the timeline
 * @throws {ZenithError} `invalid_argument`, `not_implemented`; `unavailable` or `timeout` when the
 *   branch's Postgres writes no checkpoint
 */
export async function sendBaseBackup(
  backup: Backup,
  text: string,
  onStopped: (at: RecordBoundary) => void,
): Promise<void> {
  const options = parseBaseBackup(text);
  const { server, session, timelines, timeline, turn, transfer } = backup;
  using _kept = timeline.holdWal(timeline.position);
  const redo = await server.checkpoint(timeline.timelineId, session.signal);
  const start = redo === null ? null : await findCheckpoint(timeline, redo, session.signal);
  if (start !== null) await timeline.waitFor(start.lsn, server.config.wait_lsn_timeout_ms, session.signal);
  const at = await whenPresent(() => timeline.boundary(start?.lsn ?? null));
  if (start === null) onStopped(at);
  await using _lease = await Lease.take(timeline, at.lsn);
  await timeline.makeDurable();
  const settings = await inheritedSettings(timelines, timeline.timelineId, at.lsn);
  const files = settings.settings === null ? initialFiles() : decodeSettings(settings.settings);
  using head = WalHead.open(timelines, timeline, at.lsn);
  const before = start === null ? [] : segmentsBefore(timelines, timeline, start.redoLsn, at.lsn);
  const { walSegmentSize, pg } = timeline;
  const isTagged = pg.major >= TAGGED_FROM;
  const startLsn = start?.redoLsn ?? at.lsn;
  const endLsn = start === null ? recordEndLsn(at.lsn, CHECKPOINT_RECORD_LENGTH, walSegmentSize) : at.lsn;
  const tli = newestTli(timeline.walTimelinesBefore(at.lsn));
  const content = basebackup(timeline, at, head, {
    before,
    start,
    label: options.label,
    wal: options.wal,
    tablespaceMap: false,
    files,
    terminated: isTagged,
    turn,
  });
  const manifest = options.manifest ? new Manifest(options.checksums) : null;
  const archive = throttled(transfer.counted(watched(content, manifest)), options, session.signal);
  const manifestText = (): Uint8Array => {
    const cluster = { major: pg.major, systemIdentifier: timeline.systemIdentifier };
    return manifest!.text(cluster, { tli, startLsn, endLsn });
  };
  const size = options.progress ? Math.ceil(timeline.sizes().logical / 1024) : null;
  session.sendPart(BACKUP_POSITION_COLUMNS, [[formatLsn(startLsn), tli]], "SELECT");
  session.sendPart(BACKUP_TABLESPACE_COLUMNS, [[null, null, size]], "SELECT");
  if (isTagged) {
    await session.copyPart(tagged(archive, options, manifest === null ? null : manifestText));
  } else {
    await session.copyPart(archive);
    if (manifest !== null) await session.copyPart(once(manifestText));
  }
  session.sendPart(BACKUP_POSITION_COLUMNS, [[formatLsn(endLsn), tli]], "SELECT");
  session.sendCommandComplete("BASE_BACKUP");
}

/** Finds the checkpoint in the timeline's WAL. */
async function findCheckpoint(
  timeline: Timeline,
  redoLsn: Lsn,
  signal: AbortSignal,
): Promise<OnlineStart & { readonly lsn: Lsn }> {
  const deadline = Date.now() + ARRIVAL_TIMEOUT_MS;
  const decoder = new WalDecoder({
    pg: timeline.pg,
    startLsn: redoLsn,
    segmentSize: timeline.walSegmentSize,
  });
  const record = new WalRecord();
  for (let at = redoLsn; Date.now() < deadline;) {
    signal.throwIfAborted();
    // The decoder keeps what it is fed.
    const piece = new Uint8Array(READ_BYTES);
    const available = Math.min(READ_BYTES, Math.max(0, timeline.wal.writtenLsn - at));
    const length = available === 0 ? 0 : timeline.wal.read(at, piece, 0, available);
    if (length === 0) {
      await sleep(ARRIVAL_POLL_MS, signal);
      continue;
    }
    decoder.feed(piece.subarray(0, length), at);
    at = (at + length) as Lsn;
    while (decoder.next(record)) {
      if (!isOnlineCheckpoint(record, redoLsn)) continue;
      return { redoLsn, checkpointLsn: record.lsn as Lsn, lsn: record.endLsn as Lsn };
    }
    await nextTurn();
  }
  throw new ZenithError(
    "timeout",
    `the checkpoint of ${formatLsn(redoLsn)} has not arrived from the branch's Postgres`,
    { hint: '"zenith status" says whether the page server gets the branch\'s WAL' },
  );
}

/** Keeps a moment readable. */
class Lease implements AsyncDisposable {
  readonly #timeline: Timeline;
  readonly #lsn: Lsn;
  readonly #holder = `base_backup_${crypto.randomUUID()}`;
  readonly #timer: ReturnType<typeof setInterval>;

  private constructor(timeline: Timeline, lsn: Lsn) {
    this.#timeline = timeline;
    this.#lsn = lsn;
    this.#timer = setInterval(() => void this.#take().catch(() => {}), LEASE_MS / 3);
  }

  static async take(timeline: Timeline, lsn: Lsn): Promise<Lease> {
    const lease = new Lease(timeline, lsn);
    try {
      await lease.#take();
    } catch (error) {
      clearInterval(lease.#timer);
      throw error;
    }
    return lease;
  }

  async #take(): Promise<void> {
    await this.#timeline.leases.take(this.#lsn, LEASE_MS, Date.now(), this.#holder);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    await this.#timeline.leases.release(this.#lsn, this.#holder);
  }
}

function initialFiles(): Map<string, Uint8Array> {
  const encode = (text: string): Uint8Array => new TextEncoder().encode(text);
  return new Map([
    ["postgresql.conf", encode("")],
    ["pg_hba.conf", encode(DEFAULT_HBA)],
    ["pg_ident.conf", encode("")],
  ]);
}

/** Sees the files of an archive, for their manifest. */
class Manifest implements TarHandler {
  readonly #files: ManifestFiles;
  readonly #now = new Date();
  readonly tar = new TarReader(this);

  constructor(algorithm: string | null) {
    this.#files = new ManifestFiles(algorithm);
  }

  begin({ name, type, size }: TarEntry): void {
    // A manifest says which WAL is needed, not in which files.
    if (type === "file" && backupFile(name).kind !== "wal") this.#files.begin(name, size);
  }

  content(bytes: Uint8Array): void {
    this.#files.content(bytes);
  }

  end(): void {
    this.#files.end();
  }

  text(
    cluster: { readonly major: number; readonly systemIdentifier: bigint },
    range: { readonly tli: number; readonly startLsn: Lsn; readonly endLsn: Lsn },
  ): Uint8Array {
    return new TextEncoder().encode(formatBackupManifest(cluster, this.#files.files, range, this.#now));
  }
}

async function* watched(
  content: AsyncIterable<Uint8Array>,
  manifest: Manifest | null,
): AsyncGenerator<Uint8Array> {
  for await (const chunk of content) {
    manifest?.tar.push(chunk);
    yield chunk;
  }
}

/** Passes an archive on, in pieces, no faster than MAX_RATE. */
async function* throttled(
  archive: AsyncIterable<Uint8Array>,
  { maxRate }: BaseBackupOptions,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const begun = performance.now();
  let sent = 0;
  for await (const chunk of archive) {
    for (let off = 0; off < chunk.length; off += PIECE_BYTES) {
      const piece = chunk.subarray(off, off + PIECE_BYTES);
      yield piece;
      sent += piece.length;
      if (maxRate === null) continue;
      const early = sent / (maxRate * 1024) * 1000 - (performance.now() - begun);
      if (early > 1) await sleep(early, signal);
    }
  }
}

/** A chunk is valid until the next one is asked for. */
async function* tagged(
  archive: AsyncIterable<Uint8Array>,
  { progress }: BaseBackupOptions,
  manifest: (() => Uint8Array) | null,
): AsyncGenerator<Uint8Array> {
  const buffer = new Uint8Array(1 + PIECE_BYTES);
  const data = (piece: Uint8Array): Uint8Array => {
    buffer[0] = DATA;
    buffer.set(piece, 1);
    return buffer.subarray(0, 1 + piece.length);
  };
  // The archive's name, and the location of its tablespace.
  yield Uint8Array.from([NEW_ARCHIVE, ...new TextEncoder().encode("base.tar\0\0")]);
  let done = 0;
  let told = performance.now();
  for await (const piece of archive) {
    yield data(piece);
    done += piece.length;
    if (!progress || performance.now() - told < PROGRESS_INTERVAL_MS) continue;
    told = performance.now();
    yield progressMessage(done);
  }
  if (progress) yield progressMessage(done);
  if (manifest === null) return;
  yield Uint8Array.of(MANIFEST);
  const text = manifest();
  for (let off = 0; off < text.length; off += PIECE_BYTES) yield data(text.subarray(off, off + PIECE_BYTES));
}

function progressMessage(done: number): Uint8Array {
  const message = new Uint8Array(9);
  message[0] = PROGRESS;
  new DataView(message.buffer).setBigInt64(1, BigInt(done));
  return message;
}

// deno-lint-ignore require-await
async function* once(make: () => Uint8Array): AsyncGenerator<Uint8Array> {
  yield make();
}
