/** Makes and withdraws the keys and tokens of an environment. */
import { existsSync, rmSync } from "node:fs";
import { decodeJwt, decodeProtectedHeader } from "jose";
import { type Grant, parseClaims } from "../auth/claims.ts";
import { hasKeys, makeAuthDirectories, makeKey, retireKeys, signingKeyId } from "../auth/key_files.ts";
import { readTokenFile, writePrivateFile } from "../auth/private_file.ts";
import { type SignedToken, signToken } from "../auth/sign.ts";
import {
  isRetirement,
  type MadeToken,
  madeTokens,
  retirementOf,
  revokedTokens,
} from "../auth/token_lists.ts";
import { ZenithError } from "../common/errors.ts";
import type { AuthPaths } from "../common/paths.ts";
import { OneAtATime } from "../common/one_at_a_time.ts";
import { lockFileWithin } from "../process/file_lock.ts";

const LOCK_TIMEOUT_MS = 30_000;

/** How long lists show a token that has expired. Clocks of other machines may be behind as well. */
const EXPIRED_SHOWN_MS = 30 * 86_400_000;

/** The lock blocks the thread, so one process must not wait for itself. */
const changes = new OneAtATime();

async function locked<T>(paths: AuthPaths, work: () => Promise<T>): Promise<T> {
  return await changes.run(async () => {
    makeAuthDirectories(paths);
    const lock = lockFileWithin(paths.lock, LOCK_TIMEOUT_MS);
    if (lock === null) {
      throw new ZenithError("timeout", `another process changes tokens: ${paths.lock} is locked`);
    }
    try {
      return await work();
    } finally {
      lock.release();
    }
  });
}

/** Makes the first key. Does nothing when there is one. */
export async function makeFirstKey(paths: AuthPaths): Promise<void> {
  await locked(paths, async () => {
    if (!hasKeys(paths)) await makeKey(paths);
  });
}

/**
 * Makes a token for somebody.
 *
 * @throws {ZenithError} as {@link signToken}
 */
export async function createToken(
  paths: AuthPaths,
  subject: string,
  grant: Grant,
  lifetimeMs: number | undefined,
): Promise<SignedToken> {
  return await locked(paths, async () => {
    const token = await signToken(paths, subject, grant, lifetimeMs);
    await forgetExpired(paths);
    await note(paths, token);
    return token;
  });
}

/**
 * Makes sure that a file has a token that grants this, signed with the newest key. A token that
 * granted something else is revoked.
 */
export async function ensureTokenFile(
  paths: AuthPaths,
  file: string,
  subject: string,
  grant: Grant,
): Promise<void> {
  await locked(paths, async () => {
    const old = readOwnToken(file);
    if (old !== undefined && sameGrant(old.claims, grant)) {
      const isRevoked = (revokedTokens(paths).read() ?? []).includes(old.claims.jti);
      if (old.kid === signingKeyId(paths) && !isRevoked) return;
    }
    await write(paths, file, subject, grant);
    if (old !== undefined && !sameGrant(old.claims, grant)) await revoke(paths, old.claims.jti);
  });
}

/** Revokes the token of a file, and removes the file. */
export async function dropTokenFile(paths: AuthPaths, file: string): Promise<void> {
  const old = readOwnToken(file);
  rmSync(file, { force: true });
  if (old === undefined || signingKeyId(paths) === undefined) return;
  await locked(paths, async () => {
    await revoke(paths, old.claims.jti);
    await forget(paths, old.claims.jti);
  });
}

/**
 * Makes a new key, and signs the tokens in `files` anew with it. Older keys stay trusted.
 *
 * @returns the new key's id
 */
export async function rotateKeys(paths: AuthPaths, files: readonly string[]): Promise<string> {
  return await locked(paths, async () => {
    const kid = await makeKey(paths);
    const revoked = revokedTokens(paths);
    await revoked.write([...revoked.read() ?? [], beginningOf(kid)]);
    for (const file of files.filter((file) => existsSync(file))) {
      const old = readOwnToken(file);
      if (old === undefined) continue;
      await write(paths, file, old.claims.sub, grantOf(old.claims));
      await forget(paths, old.claims.jti);
    }
    return kid;
  });
}

/**
 * Trusts only the newest key from now on. What older ones have signed is refused.
 *
 * @returns the ids of the keys that are gone
 */
export async function retireOldKeys(paths: AuthPaths): Promise<string[]> {
  return await locked(paths, async () => {
    const gone = retireKeys(paths);
    await forgetRevokedBefore(paths, signingKeyId(paths), gone);
    await forgetTokens(paths, ({ kid }) => gone.includes(kid));
    return gone;
  });
}

/** A token that was made here, as lists show it. */
export interface ListedToken extends MadeToken {
  readonly state: "valid" | "expired" | "revoked";
}

/** The tokens that were made here, oldest first. */
export function listTokens(paths: AuthPaths): ListedToken[] {
  const revoked = new Set(revokedTokens(paths).read() ?? []);
  return (madeTokens(paths).read() ?? []).map((token) => {
    const { jti, exp } = token.claims;
    const isExpired = exp !== undefined && exp <= Date.now() / 1000;
    return { ...token, state: revoked.has(jti) ? "revoked" : isExpired ? "expired" : "valid" };
  });
}

/**
 * Revokes a token.
 *
 * @param text its id, or the beginning of one
 * @returns the whole id
 * @throws {ZenithError} `not_found`; `invalid_argument` when several ids begin so
 */
export async function revokeToken(paths: AuthPaths, text: string): Promise<string> {
  return await locked(paths, async () => {
    const ids = (madeTokens(paths).read() ?? []).map(({ claims }) => claims.jti);
    const found = ids.includes(text) ? [text] : ids.filter((id) => id.startsWith(text));
    if (found.length === 0) {
      throw new ZenithError("not_found", `no token with the id ${text} was made here`, {
        hint: '"zenith token list" shows those there are',
      });
    }
    if (found.length > 1) {
      throw new ZenithError("invalid_argument", `${found.length} tokens have an id that begins with ${text}`);
    }
    await revoke(paths, found[0]!);
    await forgetExpired(paths);
    return found[0]!;
  });
}

async function write(paths: AuthPaths, file: string, subject: string, grant: Grant): Promise<void> {
  const token = await signToken(paths, subject, grant);
  await note(paths, token);
  writePrivateFile(file, `${token.text}\n`);
}

async function note(paths: AuthPaths, { claims, kid }: SignedToken): Promise<void> {
  const made = madeTokens(paths);
  await made.write([...made.read() ?? [], { claims, kid }]);
}

async function forget(paths: AuthPaths, id: string): Promise<void> {
  const made = madeTokens(paths);
  await made.write((made.read() ?? []).filter(({ claims }) => claims.jti !== id));
}

async function revoke(paths: AuthPaths, id: string): Promise<void> {
  const revoked = revokedTokens(paths);
  const before = revoked.read() ?? [];
  if (!before.includes(id)) await revoked.write([...before, id]);
}

/**
 * In the list of revoked tokens, this comes after those that were revoked before the key was made.
 * No token has such an id.
 */
function beginningOf(kid: string): string {
  return `key:${kid}`;
}

/**
 * Forgets what was revoked before the only key that is trusted was made: older ones signed it. The
 * list names those instead, for servers elsewhere that still have them.
 *
 * @param gone the keys that were just retired
 */
async function forgetRevokedBefore(
  paths: AuthPaths,
  kid: string | undefined,
  gone: readonly string[],
): Promise<void> {
  const revoked = revokedTokens(paths);
  const ids = revoked.read() ?? [];
  const at = kid === undefined ? -1 : ids.lastIndexOf(beginningOf(kid));
  const kept = ids.filter((id, index) => index >= at || isRetirement(id));
  if (at > 0 || gone.length > 0) await revoked.write([...gone.map(retirementOf), ...kept]);
}

async function forgetExpired(paths: AuthPaths): Promise<void> {
  const before = (Date.now() - EXPIRED_SHOWN_MS) / 1_000;
  await forgetTokens(paths, ({ claims: { exp } }) => exp !== undefined && exp < before);
}

/** Forgets tokens that are refused anyway, and that they were revoked. */
async function forgetTokens(paths: AuthPaths, isRefused: (token: MadeToken) => boolean): Promise<void> {
  const made = madeTokens(paths);
  const tokens = made.read() ?? [];
  const old = new Set(tokens.filter(isRefused).map(({ claims }) => claims.jti));
  if (old.size === 0) return;
  const revoked = revokedTokens(paths);
  const ids = revoked.read() ?? [];
  // First: once nobody knows whose the ids are, they stay.
  if (ids.some((id) => old.has(id))) await revoked.write(ids.filter((id) => !old.has(id)));
  await made.write(tokens.filter(({ claims }) => !old.has(claims.jti)));
}

/** Reads a token that we made, without verifying it. Undefined when there is none. */
function readOwnToken(file: string): MadeToken | undefined {
  const text = readTokenFile(file);
  if (text === undefined) return undefined;
  return { claims: parseClaims(decodeJwt(text)), kid: decodeProtectedHeader(text).kid ?? "" };
}

function grantOf({ scope, tenant, timeline, addresses, safekeepers }: Grant): Grant {
  return { scope, tenant, timeline, addresses, safekeepers };
}

function sameGrant(one: Grant, other: Grant): boolean {
  return JSON.stringify(grantOf(one)) === JSON.stringify(grantOf(other));
}
