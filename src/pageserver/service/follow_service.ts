/** Begins to follow a running primary: takes a base backup of it, and stays. */
import { join } from "node:path";
import { ZenithError } from "../../common/errors.ts";
import type { BranchName, TenantId } from "../../common/id.ts";
import { FOLLOW_FILE } from "../../common/paths.ts";
import { redactPasswords } from "../../common/redact.ts";
import { takeBaseBackup } from "../../pgwire/base_backup.ts";
import type { PgClient } from "../../pgwire/client.ts";
import type { FollowedJson } from "../../protocol/management.ts";
import type { Followed } from "../tenant/followers.ts";
import type { ImportedCluster, TenantImport } from "../tenant/import_tenant.ts";
import { connectPrimary } from "../timeline/connect_primary.ts";
import { describeSource, followFile, type FollowSource } from "../timeline/follow_state.ts";
import type { PageServer } from "./page_server.ts";
import type { Transfer } from "./transfers.ts";

/** NAMEDATALEN - 1 */
const SLOT_NAME_MAX_LENGTH = 63;

/** The slot's name at the primary, after the branch's. */
export function followSlot(branch: BranchName): string {
  return `zenith_${branch.toLowerCase().replace(/[^a-z0-9_]/g, "_")}`.slice(0, SLOT_NAME_MAX_LENGTH);
}

/**
 * Takes a base backup of the primary as a new tenant, and follows it from there. If that fails,
 * nothing is left, here or at the primary.
 *
 * @param source the primary's connection string; its role must have REPLICATION
 * @param maxSlotBytes the most WAL that the primary keeps for it
 * @param signal cancels it
 * @throws {ZenithError} `already_exists`, `conflict`, `unavailable`; the primary's own errors; as
 *   {@link TenantImport.finish}
 */
export async function startFollowing(
  server: PageServer,
  tenant: TenantId,
  branch: BranchName,
  source: string,
  maxSlotBytes: number,
  signal: AbortSignal,
): Promise<ImportedCluster> {
  const slot = followSlot(branch);
  const primary: FollowSource = { kind: "primary", connInfo: source };
  const client = await connectPrimary(source, slot, signal);
  const about = { kind: "follow", tenant, branch, estimatedBytes: null } as const;
  const copy = async (transfer: Transfer): Promise<ImportedCluster> => {
    const run = await server.beginImport(tenant, branch);
    let hasSlot = false;
    try {
      await makeSlot(client, source, slot);
      hasSlot = true;
      await takeBaseBackup(client, "zenith follow", receiver(run, transfer));
      transfer.beginWal();
      const imported = await server.finishImport(tenant, run, signal, async ({ tli }) => {
        const state = { source: primary, slot, tli, maxSlotBytes, isStopped: false };
        await followFile(server.disk, join(run.directory, FOLLOW_FILE)).write(state);
      });
      server.followers.begin(tenant, imported.timelineId);
      return imported;
    } catch (error) {
      await server.abortImport(tenant, run);
      client.destroy();
      if (hasSlot) await server.followers.dropSlot({ source: primary, slot });
      throw error;
    }
  };
  try {
    await assertNotWaitedFor(client, source);
    return await server.transfers.run({ ...about, peer: describeSource(primary) }, copy);
  } finally {
    client.destroy();
  }
}

/**
 * A follower reports what it has made durable, so that the slot moves on. The primary would take
 * that for a synchronous standby's report if any standby counted as one.
 */
async function assertNotWaitedFor(client: PgClient, source: string): Promise<void> {
  const { rows } = await client.query("SHOW synchronous_standby_names");
  const names = rows[0]?.[0] ?? "";
  if (!names.includes("*")) return;
  throw new ZenithError(
    "conflict",
    `commits on ${
      redactPasswords(source)
    } would wait for Zenith: its synchronous_standby_names is "${names}"`,
    { hint: "name the standbys there instead of *" },
  );
}

async function makeSlot(client: PgClient, source: string, slot: string): Promise<void> {
  try {
    await client.query(`CREATE_REPLICATION_SLOT ${slot} PHYSICAL RESERVE_WAL`);
  } catch (error) {
    if (!(error instanceof ZenithError && error.kind === "already_exists")) throw error;
    throw new ZenithError("already_exists", `${redactPasswords(source)} already has a slot ${slot}`, {
      hint: `if nothing follows by it, drop it there: SELECT pg_drop_replication_slot('${slot}')`,
      cause: error,
    });
  }
}

function receiver(run: TenantImport, transfer: Transfer) {
  return {
    archive: (tablespace: number | null) =>
      run.nextArchive(tablespace === null ? "" : `pg_tblspc/${tablespace}/`),
    data: (bytes: Uint8Array) => {
      run.push(bytes);
      transfer.count(bytes.length);
    },
    ready: async () => {
      if (run.congested) await run.ready();
    },
  };
}

/** Converts a follower to its wire form. */
export function followedJson(
  { tenantId, timelineId, branch, state, status, mount, problem }: Followed,
): FollowedJson {
  return {
    tenant_id: tenantId,
    branch,
    timeline_id: timelineId,
    source: describeSource(state.source),
    state: state.isStopped ? "stopped" : problem !== null ? "failed" : status?.state ?? "opening",
    problem: problem ?? status?.problem ?? mount?.problem ?? null,
    slot: state.slot,
    wal_timeline: state.tli,
    lag_bytes: status?.lagBytes ?? null,
    lag_s: status?.lagS ?? null,
    uncopied_bytes: status === null ? null : mount?.missingBytes ?? 0,
  };
}
