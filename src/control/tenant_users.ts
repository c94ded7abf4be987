/** Gives tenants operating system users of their own, from the range that the environment names. */
import { chmodSync, chownSync, mkdirSync, readFileSync, statSync } from "node:fs";
import { ioError, ZenithError } from "../common/errors.ts";
import { nodeDisk, replaceFileSync } from "../common/disk.ts";
import type { TenantId } from "../common/id.ts";
import { parseUidRange, type UidRange } from "../common/uid_range.ts";
import { readTenantUid } from "../compute/postgres/compute_user.ts";
import type { Environment } from "./environment.ts";

/**
 * Lets only its own user, and root, pass through the directory of a tenant's computes. It stays
 * root's, whose files are in it.
 */
const DIRECTORY_MODE = 0o710;

/**
 * Gives the tenant a user, unless it has one. The next start hands its files over. Does nothing
 * when the environment has no range or we aren't root. The caller holds the lock on computes.
 *
 * @param tenants lists all tenants with computes
 * @param runs whether a Postgres of the tenant runs, which would lose its files
 * @throws {ZenithError} `conflict` when the range is used up; `io`
 */
export function giveTenantUser(
  { paths, config }: Environment,
  tenant: TenantId,
  tenants: () => readonly TenantId[],
  runs: () => boolean,
): void {
  if (process.getuid!() !== 0) return;
  const file = paths.tenantUid(tenant);
  let uid = readTenantUid(file);
  if (uid === undefined) {
    if (config.tenant_uids === undefined || runs()) return;
    uid = freeUid(
      parseUidRange(config.tenant_uids)!,
      tenants().map((other) => readTenantUid(paths.tenantUid(other))),
    );
  }
  const dir = paths.computes(tenant);
  try {
    mkdirSync(dir, { recursive: true, mode: 0o755 });
    if (readTenantUid(file) === undefined) {
      replaceFileSync(nodeDisk, dir, file, new TextEncoder().encode(`${uid}\n`));
    }
    const { gid, mode } = statSync(dir);
    if (gid !== uid) chownSync(dir, 0, uid);
    if ((mode & 0o777) !== DIRECTORY_MODE) chmodSync(dir, DIRECTORY_MODE);
  } catch (error) {
    throw error instanceof ZenithError ? error : ioError("give a user to", dir, error);
  }
}

function freeUid({ first, last }: UidRange, taken: readonly (number | undefined)[]): number {
  const used = new Set([...taken, ...localUids()]);
  for (let uid = first; uid <= last; uid++) if (!used.has(uid)) return uid;
  throw new ZenithError("conflict", `all users from ${first} to ${last} are taken`, {
    hint: "widen tenant_uids in the environment's config",
  });
}

/** passwd(5): `name:password:uid:…` in each line. */
function localUids(): number[] {
  try {
    return readFileSync("/etc/passwd", "utf8").split("\n").map((line) => Number(line.split(":")[2]));
  } catch {
    return [];
  }
}
