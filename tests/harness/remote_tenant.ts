/** A tiny tenant that is uploaded to an object store in memory, step by step. */
import assert from "node:assert/strict";
import { parse } from "valibot";
import { parseBranchName, type TimelineId } from "../../src/common/id.ts";
import type { Lsn } from "../../src/common/lsn.ts";
import { PageServerConfigSchema } from "../../src/common/page_server_config.ts";
import type { ObjectStore } from "../../src/object_store/object_store.ts";
import { restoreTenant } from "../../src/pageserver/remote/restore.ts";
import { TenantUpload } from "../../src/pageserver/remote/tenant_upload.ts";
import type { PageServer } from "../../src/pageserver/service/page_server.ts";
import { NULL_LOGGER } from "../../src/process/log.ts";
import type { FaultyDisk } from "./faulty_disk.ts";
import { V15 } from "../../src/postgres/versions/v15.ts";
import { openTinyPageServer, TINY_PATHS, TINY_TENANT, tinyDisk, walAfter } from "./tiny_page_server.ts";

const XLOG_NOOP = 0x20;

/** A page server whose timelines know that there is a store, and that uploads nothing by itself. */
const CONFIG = parse(PageServerConfigSchema, { object_store: "memory:" });

/** How long objects that nothing needs stay in the store, in milliseconds. */
interface Delays {
  readonly deletionMs: number;
  /** Undefined when WAL is as anything else. */
  readonly walMs: number | undefined;
}

function openServer(disk: FaultyDisk, store: ObjectStore, { walMs }: Delays): Promise<PageServer> {
  const config = walMs === undefined ? CONFIG : { ...CONFIG, wal_retention_s: walMs / 1000 };
  return openTinyPageServer(disk, config, V15, undefined, store);
}

/** How far each branch is: its position, and the WAL before it that is here. */
export type BranchEnds = ReadonlyMap<string, { readonly position: Lsn; readonly wal: Uint8Array }>;

/** A page server in memory with one tenant, and the uploads of that tenant. */
export class RemoteTenant {
  readonly disk: FaultyDisk;
  readonly store: ObjectStore;
  server: PageServer;
  upload: TenantUpload;
  readonly deleted = new Set<TimelineId>();
  nowMs = Date.now();
  readonly #delays: Delays;

  private constructor(disk: FaultyDisk, server: PageServer, store: ObjectStore, delays: Delays) {
    this.disk = disk;
    this.server = server;
    this.store = store;
    this.#delays = delays;
    this.upload = this.#newUpload();
  }

  /** With a new tenant. */
  static async create(store: ObjectStore, deletionMs = Infinity, walMs?: number): Promise<RemoteTenant> {
    const disk = tinyDisk();
    disk.mkdirsSync(TINY_PATHS.attachments);
    const delays = { deletionMs, walMs };
    const server = await openServer(disk, store, delays);
    await server.createTenant(TINY_TENANT);
    return new RemoteTenant(disk, server, store, delays);
  }

  /** With the tenant that the store has. */
  static async restore(
    store: ObjectStore,
    options: { readonly untilMs?: number; readonly deletionMs?: number; readonly nowMs?: number } = {},
  ): Promise<RemoteTenant> {
    const disk = tinyDisk();
    disk.mkdirsSync(TINY_PATHS.tenants);
    const { untilMs, deletionMs = Infinity, nowMs = Date.now() } = options;
    const at = untilMs === undefined ? {} : { untilMs };
    await restoreTenant({ store, tenantId: TINY_TENANT, disk, paths: TINY_PATHS, nowMs, ...at });
    const delays = { deletionMs, walMs: undefined };
    const server = await openServer(disk, store, delays);
    const tenant = new RemoteTenant(disk, server, store, delays);
    tenant.nowMs = nowMs;
    return tenant;
  }

  #newUpload(): TenantUpload {
    return new TenantUpload({
      tenantId: TINY_TENANT,
      timelines: this.server.tenant(TINY_TENANT).timelines,
      isDeleted: (id) => this.deleted.has(id),
      store: this.store,
      disk: this.disk,
      paths: TINY_PATHS,
      logger: NULL_LOGGER,
      deletionDelayMs: this.#delays.deletionMs,
      walRetentionMs: this.#delays.walMs ?? this.#delays.deletionMs,
      nowMs: () => this.nowMs,
    });
  }

  /** The process ends and starts again, on the same disk. */
  async restart(meanwhile: () => void = () => {}): Promise<void> {
    await this.server.close();
    meanwhile();
    this.server = await openServer(this.disk, this.store, this.#delays);
    this.upload = this.#newUpload();
  }

  /** Ends the page server. Otherwise its timers would keep it for as long as the process lives. */
  async close(): Promise<void> {
    await this.server.close();
  }

  async #timeline(branch: string) {
    const { branches, timelines } = this.server.tenant(TINY_TENANT);
    const found = (await branches.list()).find(({ name }) => name === branch);
    assert.ok(found !== undefined, `there is a branch ${branch}`);
    return await timelines.hold(found.timelineId);
  }

  async timelineOf(branch: string): Promise<TimelineId> {
    using held = await this.#timeline(branch);
    return held.value.timelineId;
  }

  async branch(name: string, of: string): Promise<void> {
    const start = { branch: parseBranchName(of), timelineId: null, lsn: null, timestamp: null };
    await this.server.tenant(TINY_TENANT).branches.create(parseBranchName(name), start);
  }

  async deleteBranch(name: string): Promise<void> {
    const gone = await this.server.deleteBranch(TINY_TENANT, parseBranchName(name));
    for (const id of gone.timelines) this.deleted.add(id);
  }

  /** Takes in records of `bytes` bytes, durably. */
  async write(branch: string, records: number, bytes = 100): Promise<void> {
    using held = await this.#timeline(branch);
    const wal = walAfter(held.value);
    const from = await held.value.restartReceiving();
    for (let i = 0; i < records; i++) {
      wal.record({ info: XLOG_NOOP, main: new Uint8Array(bytes).fill(i + 1) });
    }
    await held.value.receive(from, wal.bytes.slice(from - wal.from));
    await held.value.makeDurable();
  }

  /** Puts everything into layers. */
  async flush(branch: string): Promise<void> {
    using held = await this.#timeline(branch);
    await held.value.putInLayers();
  }

  async merge(branch: string): Promise<void> {
    using held = await this.#timeline(branch);
    while (await held.value.store.compact() !== null);
  }

  /** Up to where safekeepers were told that they can forget WAL. */
  async reported(branch: string): Promise<Lsn> {
    using held = await this.#timeline(branch);
    return held.value.uploaded.lsn!;
  }

  /** Where a branch ends, and the last of its WAL before an LSN: up to a page of it. */
  async history(branch: string): Promise<{ end: Lsn; upTo(lsn: number): Uint8Array }> {
    using held = await this.#timeline(branch);
    const { wal, position } = held.value;
    const end = Math.min(position, wal.writtenLsn) as Lsn;
    const bytes = new Uint8Array(end - wal.startLsn);
    wal.read(wal.startLsn, bytes, 0, bytes.length);
    const from = (lsn: number) => Math.max(0, lsn - lsn % 8192 - wal.startLsn);
    return { end: position, upTo: (lsn) => bytes.subarray(from(lsn), Math.max(0, lsn - wal.startLsn)) };
  }

  /** The WAL of a branch that is here. */
  async walHere(branch: string): Promise<{ readonly start: Lsn; readonly bytes: Uint8Array }> {
    using held = await this.#timeline(branch);
    const { wal, position } = held.value;
    const start = wal.startLsn;
    const bytes = new Uint8Array(Math.max(0, position - start));
    wal.read(start, bytes, 0, bytes.length);
    return { start, bytes };
  }

  async ends(): Promise<BranchEnds> {
    const ends = new Map<string, { position: Lsn; wal: Uint8Array }>();
    for (const { name } of await this.server.tenant(TINY_TENANT).branches.list()) {
      using held = await this.#timeline(name);
      const { wal, position } = held.value;
      // What has been trimmed here may still be there elsewhere.
      const from = Math.max(wal.startLsn, position - position % 8192) as Lsn;
      const bytes = new Uint8Array(Math.max(0, Math.min(position, wal.writtenLsn) - from));
      wal.read(from, bytes, 0, bytes.length);
      // It fails when history is missing.
      held.value.boundary(position);
      const { ancestorLsn } = held.value.store;
      if (ancestorLsn !== null) {
        const { lastRecordLsn } = this.server.tenant(TINY_TENANT).timelines.ancestorOf(held.value);
        assert.ok(lastRecordLsn >= ancestorLsn, `what ${name} comes from is there up to where it left it`);
      }
      ends.set(name, { position, wal: bytes });
    }
    return ends;
  }

  /** What the tenant's directory has, apart from metadata, layers and WAL. */
  smallFiles(): string[] {
    const found: string[] = [];
    const visit = (path: string): void => {
      for (const name of this.disk.readdirSync(path).sort()) {
        const full = `${path}/${name}`;
        if (this.disk.statSync(full)!.isDirectory) {
          if (name !== "wal") visit(full);
        } else if (name !== "metadata" && name !== "remote_layers" && !name.endsWith(".layer")) {
          found.push(`${full} ${Buffer.from(this.disk.readFileSync(full)).toString("hex")}`);
        }
      }
    };
    visit(TINY_PATHS.tenant(TINY_TENANT));
    return found;
  }
}
