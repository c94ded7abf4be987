/** Verifies tokens with the keys of a directory, which may change while the server runs. */
import { createHash } from "node:crypto";
import { statSync } from "node:fs";
import { errors, jwtVerify } from "jose";
import { errorMessage, systemErrorCode, ZenithError } from "../common/errors.ts";
import type { AuthPaths } from "../common/paths.ts";
import { type Claims, parseClaims, type Principal } from "./claims.ts";
import { ALGORITHM, readTrustedKeys } from "./key_files.ts";
import { retirementOf, revokedTokens } from "./token_lists.ts";

/** How many verified tokens are remembered. Each takes some hundred bytes. */
const REMEMBERED_MAX = 4096;

/** The clocks of two machines may differ by this much. */
const CLOCK_TOLERANCE_S = 30;

type Keys = Awaited<ReturnType<typeof readTrustedKeys>>;

export class Verifier {
  readonly #paths: AuthPaths;
  /** Called when what has changed on disk can't be read. What was read before stays in force. */
  readonly #onError: (error: unknown) => void;
  #keys: Keys = new Map();
  #revoked: ReadonlySet<string> = new Set();
  /** What the files looked like when they were read. */
  #stamp = "";
  /** Verified tokens, by their hash: nothing that was verified is kept as it came. */
  readonly #verified = new Map<string, Principal>();

  private constructor(paths: AuthPaths, onError: (error: unknown) => void) {
    this.#paths = paths;
    this.#onError = onError;
  }

  /**
   * Reads the keys and the list of revoked tokens.
   *
   * @throws {ZenithError} `not_found` when there is no key; `invalid_argument`, `corrupt_data` or
   *   `io` when one can't be read
   */
  static async open(paths: AuthPaths, onError: (error: unknown) => void): Promise<Verifier> {
    const verifier = new Verifier(paths, onError);
    await verifier.#read(verifier.#look());
    if (verifier.#keys.size === 0) {
      throw new ZenithError("not_found", `there is no key in ${paths.trusted} to verify tokens with`, {
        hint: 'make keys with "zenith token rotate", or put a public key there',
      });
    }
    return verifier;
  }

  /** Reads the files again if they have changed. */
  async refresh(): Promise<void> {
    const stamp = this.#look();
    if (stamp === this.#stamp) return;
    try {
      await this.#read(stamp);
    } catch (error) {
      // Complain once.
      this.#stamp = stamp;
      this.#onError(error);
    }
  }

  /**
   * @returns who the token's holder is
   * @throws {ZenithError} `forbidden`, saying what is wrong with it
   */
  async verify(token: string): Promise<Principal> {
    await this.refresh();
    const hash = createHash("sha256").update(token).digest("base64");
    let principal = this.#verified.get(hash);
    if (principal === undefined) {
      principal = await this.#verifyNew(token);
      if (this.#verified.size >= REMEMBERED_MAX) this.#verified.clear();
      this.#verified.set(hash, principal);
    }
    const problem = this.problem(principal);
    if (problem !== undefined) throw refused(problem);
    return principal;
  }

  /** Why a token that was verified is no longer valid. Undefined while it is. */
  problem({ jti, exp, kid }: Principal): string | undefined {
    if (this.#revoked.has(jti)) return `token ${jti} was revoked`;
    if (exp !== undefined && exp + CLOCK_TOLERANCE_S <= Date.now() / 1000) {
      return `token ${jti} expired at ${new Date(exp * 1000).toISOString()}`;
    }
    if (!this.#keys.has(kid)) return `key ${kid}, which signed token ${jti}, is not trusted here`;
    return this.#revoked.has(retirementOf(kid))
      ? `key ${kid}, which signed token ${jti}, is retired`
      : undefined;
  }

  async #verifyNew(token: string): Promise<Principal> {
    let kid = "";
    let payload: unknown;
    try {
      const verified = await jwtVerify(token, (header) => {
        kid = header.kid ?? "";
        const key = this.#keys.get(kid);
        if (key === undefined) throw refused("the key that signed the token is not trusted here");
        return key;
        // Whether it has expired is asked again each time it comes, so not here.
      }, { algorithms: [ALGORITHM], currentDate: new Date(0) });
      payload = verified.payload;
    } catch (error) {
      if (error instanceof ZenithError) throw error;
      const isForged = error instanceof errors.JWSSignatureVerificationFailed;
      throw refused(isForged ? "the token's signature is wrong" : "this is not a token");
    }
    return { ...this.#claims(payload), kid };
  }

  #claims(payload: unknown): Claims {
    try {
      return parseClaims(payload);
    } catch (error) {
      throw refused(errorMessage(error));
    }
  }

  async #read(stamp: string): Promise<void> {
    // In this order: a list that has forgotten what a retired key signed must not meet that key.
    const revoked = new Set(revokedTokens(this.#paths).read() ?? []);
    const keys = await readTrustedKeys(this.#paths);
    this.#keys = keys;
    this.#revoked = revoked;
    this.#stamp = stamp;
    this.#verified.clear();
  }

  #look(): string {
    return [this.#paths.trusted, this.#paths.revoked].map((path) => {
      try {
        const { mtimeMs, ctimeMs, ino, size } = statSync(path);
        return `${mtimeMs} ${ctimeMs} ${ino} ${size}`;
      } catch (error) {
        return systemErrorCode(error) ?? "unreadable";
      }
    }).join();
  }
}

function refused(why: string): ZenithError {
  return new ZenithError("forbidden", why, {
    hint: '"zenith token create" makes a token; its text is the password',
  });
}
