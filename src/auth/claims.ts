/** What a token says: what its holder may do, and to whom. */
import {
  array,
  type GenericSchema,
  integer,
  literal,
  minLength,
  number,
  optional,
  picklist,
  pipe,
  safeParse,
  strictObject,
  string,
  transform,
} from "valibot";
import { ZenithError } from "../common/errors.ts";
import { parseTenantId, parseTimelineId, type TenantId, type TimelineId } from "../common/id.ts";

/**
 * What a token is for. src/protocol/guard.ts says what each may do.
 * - `admin`: everything, for the operator.
 * - `tenant`: one tenant, and everything in it.
 * - `read`: reading one tenant, or one timeline of it.
 * - `compute`: the compute of one timeline.
 * - `safekeeper`: a safekeeper, which calls the page server.
 * - `pageserver`: a page server, which reads WAL from safekeepers.
 */
export const SCOPES = ["admin", "tenant", "read", "compute", "safekeeper", "pageserver"] as const;

export type Scope = (typeof SCOPES)[number];

/**
 * RFC 8705: the token is good only with the client certificate that has this SHA-256, base64url.
 */
export interface Confirmation {
  readonly "x5t#S256": string;
}

/** What a token grants. */
export interface Grant {
  readonly scope: Scope;
  readonly tenant?: TenantId | undefined;
  readonly timeline?: TimelineId | undefined;
  /** Whether it is for branches that come from a mask, and for nothing else. */
  readonly masked?: true | undefined;
  /**
   * The addresses of its holder, from which it may make a server fetch WAL: `host:port`, or a
   * network such as `10.0.0.0/24`.
   */
  readonly addresses?: readonly string[] | undefined;
  /**
   * The safekeepers, by `host:port`, that its holder may make a timeline's. Others will show their
   * own tokens to them.
   */
  readonly safekeepers?: readonly string[] | undefined;
  /** The certificate that its holder has to present, too. */
  readonly cnf?: Confirmation | undefined;
}

/** The claims of a token, by the names that they have in it. */
export interface Claims extends Grant {
  /** The token's id. */
  readonly jti: string;
  /** Whom it was made for. */
  readonly sub: string;
  /** In seconds since 1970. */
  readonly iat: number;
  /**
   * In seconds since 1970. Undefined when it is valid until it is revoked or its key is retired.
   */
  readonly exp?: number | undefined;
}

/** Who a client has proved to be. */
export interface Principal extends Claims {
  /** The id of the key that signed the token. */
  readonly kid: string;
}

const SECONDS = pipe(number(), integer());

/** A claim that nobody here knows may restrict the token, so such a token is refused. */
const ClaimsSchema: GenericSchema<unknown, Claims> = strictObject({
  scope: picklist(SCOPES),
  tenant: optional(pipe(string(), transform(parseTenantId))),
  timeline: optional(pipe(string(), transform(parseTimelineId))),
  masked: optional(literal(true)),
  addresses: optional(array(string())),
  safekeepers: optional(array(string())),
  cnf: optional(strictObject({ "x5t#S256": pipe(string(), minLength(43)) })),
  jti: pipe(string(), minLength(1)),
  sub: string(),
  iat: SECONDS,
  exp: optional(SECONDS),
});

/** The ids that a token of each scope names. Other tokens name neither. */
const NAMES_TENANT: ReadonlySet<Scope> = new Set(["tenant", "read", "compute"]);
const NAMES_TIMELINE: ReadonlySet<Scope> = new Set(["compute"]);
const MAY_NAME_TIMELINE: ReadonlySet<Scope> = new Set(["read", "compute"]);
/** The scopes of tokens that may be for masked branches alone. */
const MAY_BE_MASKED: ReadonlySet<Scope> = new Set(["tenant", "read"]);

/** @throws {ZenithError} `invalid_argument` when the claims don't belong to the scope */
export function checkGrant({ scope, tenant, timeline, masked }: Grant): void {
  const problem = NAMES_TENANT.has(scope) !== (tenant !== undefined)
    ? `names ${tenant === undefined ? "no" : "a"} tenant`
    : NAMES_TIMELINE.has(scope) && timeline === undefined
    ? "names no timeline"
    : timeline !== undefined && !MAY_NAME_TIMELINE.has(scope)
    ? "names a timeline"
    : masked === true && !MAY_BE_MASKED.has(scope)
    ? "is never for masked branches alone"
    : undefined;
  if (problem !== undefined) {
    throw new ZenithError("invalid_argument", `a token of scope ${scope} ${problem}`);
  }
}

/** @throws {ZenithError} `invalid_argument` when they are not the claims of a token of ours */
export function parseClaims(payload: unknown): Claims {
  const result = safeParse(ClaimsSchema, payload);
  if (!result.success) {
    const [issue] = result.issues;
    const key = issue.path?.map((item) => String(item.key)).join(".") ?? "";
    throw new ZenithError("invalid_argument", `a claim of the token is wrong: ${key} ${issue.message}`);
  }
  checkGrant(result.output);
  return result.output;
}
