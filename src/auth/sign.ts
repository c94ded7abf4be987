/** Makes tokens: JSON web tokens (RFC 7519), signed with Ed25519. */
import { SignJWT } from "jose";
import { ZenithError } from "../common/errors.ts";
import type { AuthPaths } from "../common/paths.ts";
import { checkGrant, type Claims, type Grant } from "./claims.ts";
import { ALGORITHM, readSigningKey, signingKeyId } from "./key_files.ts";

export interface SignedToken {
  readonly text: string;
  readonly claims: Claims;
  readonly kid: string;
}

/**
 * Makes a token with the newest key.
 *
 * @param subject whom it is for
 * @param lifetimeMs undefined when it is valid until it is revoked or its key is retired
 * @throws {ZenithError} `not_found` when there is no key here to sign with; `invalid_argument` as
 *   {@link checkGrant}
 */
export async function signToken(
  paths: AuthPaths,
  subject: string,
  grant: Grant,
  lifetimeMs?: number,
): Promise<SignedToken> {
  checkGrant(grant);
  const kid = signingKeyId(paths);
  if (kid === undefined) {
    throw new ZenithError("not_found", `there is no key in ${paths.signing} to sign tokens with`, {
      hint: "make tokens where the page server's environment is",
    });
  }
  const iat = Math.floor(Date.now() / 1000);
  const exp = lifetimeMs === undefined ? {} : { exp: iat + Math.ceil(lifetimeMs / 1000) };
  const claims = { ...grant, jti: crypto.randomUUID(), sub: subject, iat, ...exp };
  const text = await new SignJWT(claims)
    .setProtectedHeader({ alg: ALGORITHM, kid })
    .sign(await readSigningKey(paths, kid));
  return { text, claims, kid };
}
