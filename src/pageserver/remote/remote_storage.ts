/** Keeps all tenants of a page server uploaded to an object store, in the background. */
import type { Disk } from "../../common/disk.ts";
import { errorMessage, withIoErrors, ZenithError } from "../../common/errors.ts";
import { isIdFileName, parseTenantId, type TenantId, type TimelineId } from "../../common/id.ts";
import type { Lsn } from "../../common/lsn.ts";
import type { PageServerConfig } from "../../common/page_server_config.ts";
import type { PageServerPaths } from "../../common/paths.ts";
import { sleep } from "../../common/sleep.ts";
import { readKeyFile } from "../../object_store/key_file.ts";
import type { RetryingStore } from "../../object_store/retrying.ts";
import type { Logger } from "../../process/log.ts";
import type { ObjectStoreStatusJson } from "../../protocol/management.ts";
import type { Tenant } from "../tenant/tenant.ts";
import { readTenantAsOf, type TenantAsOf } from "./as_of.ts";
import { buryTenant } from "./bury.ts";
import type { EncryptedStore } from "./encrypted_store.ts";
import type { BudgetTenant, LayerBudget } from "./layer_budget.ts";
import type { UploadedLayer } from "./manifest.ts";
import type { RemoteLayers } from "./remote_layers.ts";
import { type RestoredTenant, type RestoreParts, restoreTenant } from "./restore.ts";
import { readStoredWal } from "./stored_wal.ts";
import { TenantUpload } from "./tenant_upload.ts";

/** How long a tenant is left alone after its upload has failed. */
const RETRY_MS = 5_000;
/** A tenant that nobody uses and that is uploaded is looked at once in this many rounds. */
const QUIET_ROUNDS = 10;
/** How often it is looked whether a deleted tenant's objects may be removed. */
const BURIAL_INTERVAL_MS = 60_000;
/** How long the rest of a tenant may take to become durable here, so that it can be uploaded. */
const FINISH_MS = 10_000;
/** How often it is looked whether it has. */
const FINISH_POLL_MS = 50;
/** How long a change may wait for its upload. */
const SETTLE_MS = 10_000;
/** How long an orderly stop waits for the last WAL to be uploaded. */
const LAST_UPLOAD_MS = 10_000;

export interface RemoteStorageParts {
  readonly store: EncryptedStore<RetryingStore>;
  readonly layers: RemoteLayers;
  readonly budget: LayerBudget;
  readonly disk: Disk;
  readonly paths: PageServerPaths;
  readonly config: PageServerConfig;
  readonly logger: Logger;
  readonly tenants: () => Iterable<Tenant>;
  /** The timelines that were deleted on purpose. */
  readonly deleted: () => Iterable<{ readonly tenantId: TenantId; readonly timelineId: TimelineId }>;
  readonly deletedTenants: () => Iterable<TenantId>;
  /** Called when another page server has taken a tenant over. */
  readonly onTakenOver: (tenant: TenantId, why: ZenithError) => void;
}

/** Work of one tenant that is repeated, never twice at once. */
interface Repeated {
  running: Promise<void> | null;
  notBeforeMs: number;
}

interface Uploading {
  readonly tenant: Tenant;
  readonly upload: TenantUpload;
  readonly files: Repeated;
  readonly wal: Repeated;
}

export class RemoteStorage {
  readonly #parts: RemoteStorageParts;
  readonly #uploading = new Map<TenantId, Uploading>();
  /** Deleted tenants that the store still has objects of. */
  readonly #burials = new Map<TenantId, Repeated>();
  #timer: ReturnType<typeof setInterval> | undefined;
  #lastProblem = "";
  #isEnforcing = false;
  #rounds = 0;

  constructor(parts: RemoteStorageParts) {
    this.#parts = parts;
  }

  /** @throws {ZenithError} `io`, `disk_full` */
  start(): void {
    const { disk, paths, config } = this.#parts;
    withIoErrors("create", paths.attachments, () => {
      disk.mkdirsSync(paths.attachments);
      disk.fsyncDirSync(paths.workdir);
    });
    this.#timer = setInterval(() => this.#round(), config.wal_upload_interval_ms);
    this.#round();
  }

  /** Ends the uploads. Waits a little for the last WAL, and for what is running. */
  async stop(): Promise<void> {
    clearInterval(this.#timer);
    if (this.#timer === undefined) return;
    this.#timer = undefined;
    const last = [...this.#uploading.values()].map(async ({ upload, wal }) => {
      await wal.running;
      await upload.uploadWal().catch((error: unknown) => this.#note(error));
    });
    await Promise.race([Promise.all(last), sleep(LAST_UPLOAD_MS)]);
  }

  /**
   * Uploads what is left of a tenant that nobody writes to any more. Does nothing for one that
   * belongs to another page server by now.
   *
   * @throws {ZenithError} `conflict` when something can't be uploaded; the store's errors
   */
  async finish(tenant: TenantId): Promise<void> {
    const uploading = this.#uploading.get(tenant) ?? this.#begin(tenant);
    if (uploading === undefined) throw new ZenithError("not_found", `tenant ${tenant} is not here`);
    const { upload, files } = uploading;
    if (upload.takenOver !== null) return;
    files.notBeforeMs = Infinity;
    try {
      await files.running;
      // To compare their WAL, timelines are opened. That replays WAL, and writes it and files anew.
      const deadline = performance.now() + FINISH_MS;
      for (;;) {
        await upload.uploadFiles();
        await upload.uploadWal();
        if (upload.status().pendingSinceMs === null) return;
        if (performance.now() > deadline) break;
        await sleep(FINISH_POLL_MS);
      }
    } finally {
      files.notBeforeMs = 0;
    }
    throw new ZenithError("conflict", `not everything of tenant ${tenant} is in the object store`, {
      hint: 'it changes, or has damaged files; "zenith status" shows what is known',
    });
  }

  /**
   * Waits until what has changed in a tenant's files by now is uploaded. When the store is away, it
   * waits no longer than {@link SETTLE_MS}: the next round goes on.
   */
  async settle(tenant: TenantId): Promise<void> {
    const uploading = this.#uploading.get(tenant) ?? this.#begin(tenant);
    if (uploading === undefined) return;
    const { upload, files } = uploading;
    const twice = async (): Promise<void> => {
      // What runs may have looked before the change.
      await files.running;
      this.#repeat(tenant, upload, files, () => upload.uploadFiles());
      await files.running;
    };
    await Promise.race([twice(), sleep(SETTLE_MS)]);
  }

  /** Begins to upload a tenant before the next round does. Undefined when it is not here. */
  #begin(id: TenantId): Uploading | undefined {
    const tenant = [...this.#parts.tenants()].find((each) => each.id === id);
    if (tenant === undefined) return undefined;
    const uploading = this.#newUpload(tenant);
    this.#uploading.set(id, uploading);
    return uploading;
  }

  /** Ends the uploads of a tenant that is gone from here. It may come back at once. */
  forget(tenant: TenantId): void {
    this.#uploading.delete(tenant);
  }

  /**
   * Makes a tenant of the store one of this disk's. @throws {ZenithError} as `restoreTenant`
   */
  restore(
    tenantId: TenantId,
    options: Pick<RestoreParts, "keepsSafekeepers" | "untilMs"> = {},
  ): Promise<RestoredTenant> {
    const { store, disk, paths } = this.#parts;
    return restoreTenant({ store, tenantId, disk, paths, nowMs: Date.now(), ...options });
  }

  /** As {@link readTenantAsOf}, from this page server's store. */
  asOf(tenant: TenantId, untilMs: number): Promise<TenantAsOf> {
    return readTenantAsOf(this.#parts.store, tenant, Date.now(), untilMs);
  }

  /** As {@link readStoredWal}, from this page server's store. */
  readWal(tenant: TenantId, timeline: TimelineId, from: Lsn, until: Lsn): AsyncGenerator<Uint8Array> {
    return readStoredWal(this.#parts.store, tenant, timeline, from, until);
  }

  /** Whether another page server is known to have taken the tenant over. */
  isTakenOver(tenant: TenantId): boolean {
    return (this.#uploading.get(tenant)?.upload.takenOver ?? null) !== null;
  }

  /** The generation in which a tenant is ours. Null when it is not, or has not begun yet. */
  generation(tenant: TenantId): number | null {
    const upload = this.#uploading.get(tenant)?.upload;
    return upload === undefined || upload.takenOver !== null ? null : upload.generation;
  }

  /** @throws the reason why the tenant can't be used here any more */
  assertOurs(tenant: TenantId): void {
    const why = this.#uploading.get(tenant)?.upload.takenOver;
    if (why !== undefined && why !== null) throw why;
  }

  status(): ObjectStoreStatusJson {
    const { store, budget, config } = this.#parts;
    const use = budget.use(this.#budgetTenants());
    const time = (ms: number | null) => ms === null ? null : new Date(ms).toISOString();
    const { counts } = store.raw;
    return {
      url: store.url,
      requests: counts.requests,
      retries: counts.retries,
      sent_bytes: counts.sentBytes,
      received_bytes: counts.receivedBytes,
      encryption: encryptionStatus(store.keyFile),
      disk: {
        limit_bytes: config.layer_disk_bytes ?? null,
        fetched_bytes: use.chunkBytes,
        uploaded_bytes: use.uploadedBytes,
        pending_bytes: use.pendingBytes,
        is_full: budget.isFull,
      },
      tenants: Array.from(this.#uploading, ([id, { upload }]) => {
        const { generation, pendingBytes, pendingSinceMs, error } = upload.status();
        const encryptedFrom = store.encryptedFrom(id);
        return {
          tenant_id: id,
          generation,
          pending_bytes: pendingBytes,
          pending_since: time(pendingSinceMs),
          taken_over: upload.takenOver !== null,
          error,
          is_encrypted: encryptedFrom !== null,
          plain_bytes: plainBytes(upload.layersInStore(), encryptedFrom ?? Infinity),
        };
      }),
    };
  }

  #round(): void {
    const present = new Set<TenantId>();
    const isForQuiet = this.#rounds++ % QUIET_ROUNDS === 0;
    for (const tenant of this.#parts.tenants()) {
      present.add(tenant.id);
      let uploading = this.#uploading.get(tenant.id);
      // A deleted tenant may have been created anew.
      if (uploading === undefined || uploading.tenant !== tenant) {
        uploading = this.#newUpload(tenant);
        this.#uploading.set(tenant.id, uploading);
      }
      const { upload, files, wal } = uploading;
      if (!isForQuiet && upload.isUploaded && tenant.timelines.opened().length === 0) continue;
      this.#repeat(tenant.id, upload, files, () => upload.uploadFiles());
      this.#repeat(tenant.id, upload, wal, () => upload.uploadWal());
    }
    for (const id of this.#uploading.keys()) if (!present.has(id)) this.#uploading.delete(id);
    this.#bury(present);
    void this.#enforceBudget();
  }

  /** Tenants that others have taken over don't count: what is in the store is theirs. */
  #budgetTenants(): BudgetTenant[] {
    return [...this.#uploading].filter(([, { upload }]) => upload.takenOver === null).map((
      [tenantId, { upload }],
    ) => ({ tenantId, uploaded: upload.layersInStore(), pendingBytes: upload.pendingLayerBytes }));
  }

  async #enforceBudget(): Promise<void> {
    const { budget } = this.#parts;
    if (!budget.isLimited || this.#isEnforcing) return;
    this.#isEnforcing = true;
    try {
      await budget.enforce(this.#budgetTenants());
    } catch (error) {
      this.#note(error);
    } finally {
      this.#isEnforcing = false;
    }
  }

  #newUpload(tenant: Tenant): Uploading {
    const idle = (): Repeated => ({ running: null, notBeforeMs: 0 });
    return { tenant, upload: this.#uploadOf(tenant), files: idle(), wal: idle() };
  }

  #uploadOf({ id: tenantId, timelines }: Tenant): TenantUpload {
    const { store, disk, paths, config, logger, deleted } = this.#parts;
    return new TenantUpload({
      tenantId,
      timelines,
      isDeleted: (id) => [...deleted()].some(({ timelineId }) => timelineId === id),
      store,
      disk,
      paths,
      logger,
      deletionDelayMs: config.deletion_delay_s * 1000,
      walRetentionMs: (config.wal_retention_s ?? config.deletion_delay_s) * 1000,
      nowMs: Date.now,
    });
  }

  #repeat(id: TenantId, upload: TenantUpload, repeated: Repeated, work: () => Promise<void>): void {
    if (repeated.running !== null || upload.takenOver !== null) return;
    if (performance.now() < repeated.notBeforeMs) return;
    repeated.running = work().catch((error: unknown) => {
      repeated.notBeforeMs = performance.now() + RETRY_MS;
      this.#note(error, id);
      // The tenant may have left and come back meanwhile.
      const isCurrent = this.#uploading.get(id)?.upload === upload;
      if (upload.takenOver !== null && isCurrent) this.#parts.onTakenOver(id, upload.takenOver);
    }).finally(() => {
      repeated.running = null;
    });
  }

  /** Takes leave of tenants that were deleted here, also before the last start. */
  #bury(present: ReadonlySet<TenantId>): void {
    const { disk, paths } = this.#parts;
    const dead = new Set(this.#parts.deletedTenants());
    if (dead.size === 0) return;
    for (const name of disk.readdirSync(paths.attachments)) {
      if (!isIdFileName(name)) continue;
      const id = parseTenantId(name);
      const isHere = present.has(id) || disk.statSync(paths.tenant(id)) !== null;
      if (isHere || !dead.has(id)) continue;
      const burial = this.#burials.get(id) ?? { running: null, notBeforeMs: 0 };
      this.#burials.set(id, burial);
      if (burial.running !== null || performance.now() < burial.notBeforeMs) continue;
      burial.notBeforeMs = performance.now() + BURIAL_INTERVAL_MS;
      burial.running = this.#buryOne(id).catch((error: unknown) => this.#note(error, id)).finally(() => {
        burial.running = null;
      });
    }
  }

  async #buryOne(id: TenantId): Promise<void> {
    const { store, disk, paths, config } = this.#parts;
    const delayMs = config.deletion_delay_s * 1000;
    if (await buryTenant(store, id, disk, paths, delayMs, Date.now())) {
      await disk.unlink(paths.attachment(id));
    }
  }

  /** Logs each problem once until there is another one. */
  #note(error: unknown, tenant?: TenantId): void {
    const message = errorMessage(error);
    if (message === this.#lastProblem) return;
    this.#lastProblem = message;
    this.#parts.logger.warn(`could not upload: ${message}`, {
      ...(tenant === undefined ? {} : { tenant }),
      err: error,
    });
  }
}

/** Reads the key file, which the next start needs. */
function encryptionStatus(keyFile: string | null): ObjectStoreStatusJson["encryption"] {
  if (keyFile === null) return null;
  try {
    return { key_file: keyFile, key_id: readKeyFile(keyFile)[0].id, error: null };
  } catch (error) {
    return { key_file: keyFile, key_id: null, error: errorMessage(error) };
  }
}

/** How many bytes of layers were uploaded before encryption began. */
function plainBytes(layers: ReadonlyMap<TimelineId, readonly UploadedLayer[]>, from: number): number {
  const plain = [...layers.values()].flat().filter(({ generation }) => generation < from);
  return plain.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
}
