/** Makes a branch of which nobody can see what it was before it was masked. */
import { readFileSync } from "node:fs";
import { ioError, systemErrorCode, ZenithError } from "../common/errors.ts";
import { type BranchName, parseBranchName, type TenantId } from "../common/id.ts";
import { formatLsn, type Lsn, parseLsn } from "../common/lsn.ts";
import type { MaskFile } from "../common/mask_file.ts";
import { type BranchPoint, formatBranchPoint } from "../common/moment.ts";
import { formatTimeForName } from "../common/timestamp.ts";
import type { StorageChoice } from "../compute/storage.ts";
import { untilPointArrived } from "./branch_end.ts";
import { destroyCompute, findComputePlace, stopCompute } from "./compute_places.ts";
import { type ComputeInfo, createCompute, startCompute } from "./computes.ts";
import { deleteBranch } from "./delete_branch.ts";
import type { Environment } from "./environment.ts";
import type { BranchInfo, PageServerClient } from "./page_server_client.ts";
import { randomFirstPort } from "./ports.ts";
import { restoreBranch } from "./restore_branch.ts";

export interface MaskWishes {
  readonly name: BranchName;
  /** What to mask. */
  readonly point: BranchPoint;
  readonly files: readonly MaskFile[];
  /**
   * If the branch exists: the name under which what it is now stays; undefined deletes it.
   */
  readonly keepAs: BranchName | undefined;
  readonly storage?: StorageChoice | undefined;
  readonly onProgress: (text: string) => void;
  /** Called between the steps. Throws when the masked branch is not wanted any more. */
  readonly throwIfAsked: () => void;
}

export interface MaskedBranch {
  readonly branch: BranchInfo;
  /** The branch on which the mask ran. The masked one reads from it. */
  readonly work: BranchInfo;
  /** Whether another masked branch had the name before. */
  readonly isAgain: boolean;
  /** The Postgres that ran on that one, and runs on this one now. */
  readonly compute: ComputeInfo | undefined;
  /** Messages about safekeepers that could not delete timelines. */
  readonly problems: readonly string[];
}

/** If the command is killed, the branch that it works on expires after this time. */
const LIFETIME_MS = 86_400_000;

/**
 * Masks a point of history. Everything happens on a branch of its own, whose Postgres lets nobody
 * in. Only then the masked branch begins, at that one's end.
 *
 * @throws {ZenithError} `conflict` when a branch of that name is not masked; `invalid_argument`
 *   with what is wrong with the SQL. Nothing is left then, and a masked branch of that name is as
 *   before
 */
export async function maskBranch(
  environment: Environment,
  client: PageServerClient,
  tenant: TenantId,
  { name, point, files, keepAs, storage, onProgress, throwIfAsked }: MaskWishes,
): Promise<MaskedBranch> {
  const before = await client.findBranch(tenant, name);
  if (before !== undefined && before.masked_from_lsn === null) {
    throw new ZenithError("conflict", `branch ${name} exists, and is not masked`, {
      hint: "choose another name, or delete it",
    });
  }
  await untilPointArrived(client, tenant, point);
  const workName = parseBranchName(`${workPrefix(name)}${formatTimeForName(new Date())}`);
  const start = formatBranchPoint(point);
  const work = await client.branchCreate(tenant, workName, start, LIFETIME_MS, { unmasked: true });
  let compute: ComputeInfo | undefined;
  try {
    const firstPort = randomFirstPort();
    compute = await createCompute(environment, client, tenant, work, { firstPort, unmasked: true });
    throwIfAsked();
    onProgress("masking");
    await startCompute(environment, compute, {
      mask: files,
      ...(storage === undefined ? {} : { storage }),
      onProgress: (text) => onProgress(`masking: ${text}`),
    });
    await stopCompute(findComputePlace(environment, tenant, workName), "fast", onProgress);
    const end = await maskedEnd(client, tenant, compute, workName);
    throwIfAsked();
    const masked: BranchPoint = { name: workName, moment: { kind: "lsn", lsn: end } };
    const maskFlags = { masked: true, unmasked: true };
    const made = before === undefined
      ? {
        branch: await client.branchCreate(tenant, name, formatBranchPoint(masked), undefined, maskFlags),
        compute: undefined,
        problems: [],
      }
      : await restoreBranch(environment, client, tenant, before, masked, { keepAs, maskFlags, onProgress });
    await client.branchSetExpiry(tenant, workName, undefined);
    await destroyCompute(environment, findComputePlace(environment, tenant, workName));
    if (before !== undefined && keepAs === undefined) await removeWork(environment, client, tenant, before);
    return { ...made, work, isAgain: before !== undefined };
  } catch (error) {
    await removeFailed(environment, client, tenant, work, compute);
    throw error;
  }
}

function workPrefix(name: string): string {
  return `${name}-work-`;
}

/**
 * Returns where the masked branch begins. All that the mask has written has to be there: a Postgres
 * that crashed on the way would have left only a part.
 *
 * @throws {ZenithError} `unavailable` when it is not
 */
async function maskedEnd(
  client: PageServerClient,
  tenant: TenantId,
  { paths }: ComputeInfo,
  work: BranchName,
): Promise<Lsn> {
  const maskedAt = readMasked(paths.masked);
  await untilPointArrived(client, tenant, { name: work, moment: { kind: "end" } });
  const { next_lsn: end } = await client.branch(tenant, work);
  if (maskedAt !== undefined && end > maskedAt) return end;
  throw new ZenithError(
    "unavailable",
    maskedAt === undefined
      ? "the Postgres that ran the mask did not stay up"
      : `the mask is not complete: it ends at ${formatLsn(maskedAt)}, and what is there at ${formatLsn(end)}`,
    { hint: "nothing was kept: try again" },
  );
}

function readMasked(path: string): Lsn | undefined {
  try {
    return parseLsn(readFileSync(path, "utf8").trim());
  } catch (error) {
    if (systemErrorCode(error) === "ENOENT") return undefined;
    if (error instanceof ZenithError) throw error;
    throw ioError("read", path, error);
  }
}

/**
 * Removes the branch that an earlier mask of the same name ran on, if nothing else reads from it.
 */
async function removeWork(
  environment: Environment,
  client: PageServerClient,
  tenant: TenantId,
  { name, ancestor_id: ancestor }: BranchInfo,
): Promise<void> {
  const work = ancestor === null ? undefined : await client.findBranch(tenant, ancestor);
  if (work === undefined || !work.name.startsWith(workPrefix(name))) return;
  try {
    await removeBranch(environment, client, tenant, work, []);
  } catch (error) {
    if (!(error instanceof ZenithError) || error.kind !== "conflict") throw error;
  }
}

async function removeFailed(
  environment: Environment,
  client: PageServerClient,
  tenant: TenantId,
  work: BranchInfo,
  compute: ComputeInfo | undefined,
): Promise<void> {
  try {
    const computes = compute === undefined
      ? []
      : [{ ...compute, ...findComputePlace(environment, tenant, parseBranchName(work.name)) }];
    await removeBranch(environment, client, tenant, work, computes);
  } catch {
    // It expires. The caller's error says what went wrong first.
  }
}

async function removeBranch(
  environment: Environment,
  client: PageServerClient,
  tenant: TenantId,
  branch: BranchInfo,
  computes: readonly ComputeInfo[],
): Promise<void> {
  await deleteBranch(environment, client, {
    tenant,
    name: parseBranchName(branch.name),
    cascade: false,
    timelines: [branch.timeline_id],
    computes,
  });
}
