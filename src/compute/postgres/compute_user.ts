/**
 * The operating system user that a tenant's Postgres run as: one of the tenant's own, if it has
 * been given one, so that nothing of another tenant's is in its reach.
 */
import { readFileSync } from "node:fs";
import { ioError, systemErrorCode, ZenithError } from "../../common/errors.ts";
import type { ComputePaths } from "../../common/paths.ts";
import { UID_MAX } from "../../common/uid_range.ts";
import { type PgUser, pgUser } from "../../pg_install/pg_user.ts";

/**
 * Returns the user, who need not be in `/etc/passwd`. Undefined when we aren't root.
 *
 * @throws {ZenithError} as {@link pgUser}; `io`, `invalid_argument` when the tenant's is unreadable
 */
export function computeUser(paths: Pick<ComputePaths, "tenantUid">): PgUser | undefined {
  const shared = pgUser();
  if (shared === undefined) return undefined;
  const uid = readTenantUid(paths.tenantUid);
  return uid === undefined ? shared : { name: `uid ${uid}`, uid, gid: uid, isNameless: true };
}

/** Returns undefined when the tenant has none of its own. @throws {ZenithError} */
export function readTenantUid(file: string): number | undefined {
  let text: string;
  try {
    text = readFileSync(file, "utf8").trim();
  } catch (error) {
    if (systemErrorCode(error) === "ENOENT") return undefined;
    throw ioError("read", file, error);
  }
  const uid = Number(text);
  if (/^\d+$/.test(text) && uid > 0 && uid <= UID_MAX) return uid;
  throw new ZenithError("invalid_argument", `${file} has "${text.slice(0, 40)}": expected a user's number`);
}
