/**
 * Which branch a client wants, and at which moment: by the name that it has called us, by
 * `options=endpoint=…`, or by the database's name. docs/serve.md has the rules.
 */
import {
  type BranchName,
  isBranchName,
  parseBranchName,
  parseTenantId,
  type TenantId,
} from "../../common/id.ts";
import { parseLsn } from "../../common/lsn.ts";
import type { Moment } from "../../common/moment.ts";
import { parseTimestamp } from "../../common/timestamp.ts";
import { PgError, ProtocolError } from "../../pgwire/sqlstate.ts";
import type { Directory } from "../state/directory.ts";

export interface Destination {
  readonly tenant: TenantId;
  readonly branch: BranchName;
  /** Undefined for the branch's own compute. */
  readonly moment: Moment | undefined;
  /** Whether the client shares sessions of Postgres with others, transaction by transaction. */
  readonly isPooled: boolean;
  /** What the compute's Postgres is told. */
  readonly params: ReadonlyMap<string, string>;
}

/** What names stand for. */
export interface Names {
  readonly directory: Directory;
  /** The domain below which each endpoint has its name. */
  readonly domain: string;
  readonly defaultTenant: TenantId;
  readonly defaultBranch: BranchName;
}

const POOLED = "-pooler";

/**
 * @param serverName the host name by which the client has called us, in lower case
 * @throws {ZenithError} `not_found`, `invalid_argument`
 */
export function findDestination(
  params: ReadonlyMap<string, string>,
  serverName: string | undefined,
  names: Names,
): Destination {
  const { endpoint, moment, rest } = splitOptions(params.get("options") ?? "");
  const label = serverName === undefined ? undefined : labelOf(serverName, names.domain);
  if (label !== undefined && endpoint !== undefined && label !== endpoint) {
    throw new ProtocolError(`inconsistent endpoint names: the host says "${label}", options "${endpoint}"`);
  }
  const passedOn = new Map(params);
  if (rest === "") passedOn.delete("options");
  else passedOn.set("options", rest);
  const wanted = endpoint ?? label;
  const found = wanted === undefined ? byDatabase(passedOn, names) : byLabel(wanted, names);
  return { ...found, moment, isPooled: wanted?.endsWith(POOLED) === true, params: passedOn };
}

/** The first label below our domain; undefined for the domain itself, and for other names. */
function labelOf(serverName: string, domain: string): string | undefined {
  if (!serverName.endsWith(`.${domain}`)) return undefined;
  const label = serverName.slice(0, -domain.length - 1);
  return label.includes(".") ? undefined : label;
}

/** @throws {ZenithError} `not_found` */
function byLabel(
  text: string,
  { directory, defaultTenant }: Names,
): { tenant: TenantId; branch: BranchName } {
  const label = text.endsWith(POOLED) ? text.slice(0, -POOLED.length) : text;
  const known = directory.byEndpoint(label) ?? directory.byId(label);
  if (known !== undefined) return { tenant: known.tenant, branch: known.name };
  if (isBranchName(label) && !/^(ep|br)-/.test(label)) {
    return { tenant: defaultTenant, branch: parseBranchName(label) };
  }
  throw noEndpoint(label);
}

function noEndpoint(label: string): PgError {
  return new PgError("08004", `there is no endpoint ${JSON.stringify(label.slice(0, 100))}`, {
    severity: "FATAL",
    hint: "its id is the first label of the host name, or options=endpoint%3D<id> in the connection string",
  });
}

/** `tenant/branch` as the database's name, else the default branch. */
function byDatabase(
  params: Map<string, string>,
  { defaultTenant, defaultBranch }: Names,
): { tenant: TenantId; branch: BranchName } {
  const database = params.get("database") ?? "";
  const match = /^([0-9a-f]{32})\/(.+)$/.exec(database);
  if (match === null) return { tenant: defaultTenant, branch: defaultBranch };
  params.set("database", "postgres");
  return { tenant: parseTenantId(match[1]!), branch: parseBranchName(match[2]!) };
}

interface Split {
  readonly endpoint: string | undefined;
  readonly moment: Moment | undefined;
  /** The options that are Postgres's own, as they were written. */
  readonly rest: string;
}

/** Takes our own words out of the `options` of a startup packet. */
function splitOptions(text: string): Split {
  let endpoint: string | undefined;
  let moment: Moment | undefined;
  const rest: string[] = [];
  for (const [word] of text.matchAll(/(?:\\.|[^\s\\])+/gs)) {
    const named = /^(?:endpoint|project)=([A-Za-z0-9-]{1,100})$/.exec(word);
    const ours = /^neon_([a-z_]+):(.*)$/s.exec(word);
    if (named !== null) {
      const id = named[1]!.toLowerCase();
      if (endpoint !== undefined && endpoint !== id) {
        throw new ProtocolError(`inconsistent endpoint names in options: "${endpoint}" and "${id}"`);
      }
      endpoint = id;
    } else if (ours !== null) moment = momentOf(ours[1]!, ours[2]!) ?? moment;
    else rest.push(word);
  }
  return { endpoint, moment, rest: rest.join(" ") };
}

function momentOf(name: string, value: string): Moment | undefined {
  if (name === "lsn") return { kind: "lsn", lsn: parseLsn(value) };
  if (name === "timestamp") {
    return { kind: "time", timestamp: parseTimestamp(value.replaceAll("\\", ""), "none") };
  }
  return undefined;
}
