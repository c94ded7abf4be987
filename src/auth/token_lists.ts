/**
 * The lists of the tokens that were made, and of those that are revoked. Neither has a token in it.
 * docs/formats/small_files.md is the specification.
 */
import { nodeDisk } from "../common/disk.ts";
import { ZenithError } from "../common/errors.ts";
import type { AuthPaths } from "../common/paths.ts";
import { SmallFile, type SmallFormat } from "../common/small_file.ts";
import { type Claims, parseClaims } from "./claims.ts";

/** A token that was made. */
export interface MadeToken {
  readonly claims: Claims;
  readonly kid: string;
}

const MADE: SmallFormat<readonly MadeToken[]> = {
  title: "zenith tokens",
  encode: (tokens) => tokens.map(({ claims, kid }) => JSON.stringify({ kid, claims })),
  decode: (lines) =>
    lines.map((line) => {
      const { kid, claims } = JSON.parse(line) as { kid: string; claims: unknown };
      return { kid, claims: parseClaims(claims) };
    }),
};

/**
 * In the list of revoked tokens, stands for all that a retired key has signed. No token has such an
 * id.
 */
export function retirementOf(kid: string): string {
  return `${RETIRED}${kid}`;
}

export function isRetirement(id: string): boolean {
  return id.startsWith(RETIRED);
}

const RETIRED = "retired:";

/** A token's id: what fits a line. */
const TOKEN_ID = /^[\w.:-]{1,200}$/;

const REVOKED: SmallFormat<readonly string[]> = {
  title: "zenith revoked tokens",
  encode: (ids) => ids,
  decode: (lines) => {
    const wrong = lines.find((line) => !TOKEN_ID.test(line));
    if (wrong !== undefined) throw new ZenithError("corrupt_data", `"${wrong}" is not a token's id`);
    return lines;
  },
};

/** The tokens that were made here, oldest first. */
export function madeTokens(paths: AuthPaths): SmallFile<readonly MadeToken[]> {
  return new SmallFile(nodeDisk, paths.made, MADE);
}

/** The ids of the tokens that are refused, and marks: {@link retirementOf}. */
export function revokedTokens(paths: AuthPaths): SmallFile<readonly string[]> {
  return new SmallFile(nodeDisk, paths.revoked, REVOKED);
}
