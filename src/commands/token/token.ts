/** `zenith token`: makes, lists and withdraws the tokens by which clients prove who they are. */
import { X509Certificate } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { type Grant, type Scope, SCOPES } from "../../auth/claims.ts";
import { hasKeys } from "../../auth/key_files.ts";
import { writePrivateFile } from "../../auth/private_file.ts";
import { formatDuration, parseDuration } from "../../common/duration.ts";
import { certificateHash } from "../../common/certificate_hash.ts";
import { withIoErrors, ZenithError } from "../../common/errors.ts";
import { formatHostPort, parseHostPort } from "../../common/host_port.ts";
import { parseBranchName, type TenantId, type TimelineId } from "../../common/id.ts";
import type { AuthPaths } from "../../common/paths.ts";
import { allComputePlaces } from "../../control/compute_places.ts";
import {
  chooseTenant,
  type Environment,
  loadEnvironment,
  pageServerAddress,
} from "../../control/environment.ts";
import { PageServerClient } from "../../control/page_server_client.ts";
import {
  createToken,
  type ListedToken,
  listTokens,
  retireOldKeys,
  revokeToken,
  rotateKeys,
} from "../../control/tokens.ts";
import { checkTokenAddress } from "../../protocol/guard.ts";
import {
  type Command,
  JSON_OPTION,
  optionText,
  optionTexts,
  type OptionValues,
  requiredArg,
  TENANT_OPTION,
} from "../cli/command.ts";
import { type Column, print, printJson, printList } from "../cli/output.ts";

const LIFETIME_DEFAULT = "90d";
const NEVER = "never";

/** Scopes of tokens that are about a tenant, and of those that may be about one of its branches. */
const OF_A_TENANT: ReadonlySet<Scope> = new Set(["tenant", "read", "compute"]);

export const tokenCreateCommand: Command = {
  usage: "token create <for>",
  description: "Make a token and print it: the password on every connection to a server",
  options: [
    { flags: "--scope <scope>", description: `What it may do: ${SCOPES.join(", ")}`, values: SCOPES },
    TENANT_OPTION,
    { flags: "--branch <branch>", description: "For this branch alone (read, compute)", values: "branch" },
    { flags: "--masked", description: "For branches that come from a mask alone (tenant, read)" },
    {
      flags: "--address <host:port>",
      description: "Where its holder's WAL may be fetched: an address or a network; may be repeated",
      multiple: true,
    },
    {
      flags: "--safekeeper <host:port>",
      description: "A safekeeper that its holder may use; may be repeated (tenant, compute)",
      multiple: true,
    },
    {
      flags: "--certificate <file>",
      description: "Good only together with this client certificate, in PEM, and its key",
    },
    {
      flags: "--expires <duration>",
      description: `How long it is valid, or ${NEVER}`,
      default: LIFETIME_DEFAULT,
    },
    { flags: "--out <file>", description: "Write it to a file that nobody else can read" },
    JSON_OPTION,
  ],
  examples: [
    ["token create ci --scope tenant --expires 30d", "Whatever there is to do in the default tenant"],
    ["token create archive --scope read --branch main --out main.token", "For pg_receivewal on main"],
    ["token create ann --scope tenant --masked", "Whatever there is to do with masked branches"],
    ["token create ops --scope admin --certificate ops.pem", "A stolen token is no use without the key"],
    ["token create sk4 --scope safekeeper --address 10.0.0.4:5454", "For a safekeeper on another host"],
  ],
  async run(args, options) {
    const environment = loadEnvironment();
    const auth = authOf(environment);
    const subject = requiredArg(args, 0);
    const scope = parseScope(optionText(options, "scope"));
    const addresses = optionTexts(options, "address");
    for (const address of addresses) checkTokenAddress(address);
    const safekeepers = optionTexts(options, "safekeeper").map((text) => formatHostPort(parseHostPort(text)));
    const { text, claims } = await createToken(auth, subject, {
      scope,
      ...await whatItNames(environment, scope, options),
      ...(options["masked"] === true ? { masked: true as const } : {}),
      ...(addresses.length === 0 ? {} : { addresses }),
      ...(safekeepers.length === 0 ? {} : { safekeepers }),
      ...certificateOf(optionText(options, "certificate")),
    }, parseLifetime(optionText(options, "expires") ?? LIFETIME_DEFAULT));
    const file = optionText(options, "out");
    if (file !== undefined) writePrivateFile(file, `${text}\n`);
    if (options["json"] === true) {
      printJson({ id: claims.jti, file: file ?? null, token: file === undefined ? text : null });
    } else print(file === undefined ? text : `token ${claims.jti} is in ${file}`);
  },
};

function certificateOf(file: string | undefined): Pick<Grant, "cnf"> {
  if (file === undefined) return {};
  const pem = withIoErrors("read", file, () => readFileSync(file, "utf8"));
  try {
    return { cnf: { "x5t#S256": certificateHash(new X509Certificate(pem)) } };
  } catch (error) {
    throw new ZenithError("invalid_argument", `${file} is no certificate in PEM`, { cause: error });
  }
}

function parseScope(text: string | undefined): Scope {
  const scope = SCOPES.find((scope) => scope === text);
  if (scope !== undefined) return scope;
  const found = text === undefined ? "is missing" : `is "${text}"`;
  throw new ZenithError("invalid_argument", `--scope ${found}: expected ${SCOPES.join(", ")}`);
}

function parseLifetime(text: string): number | undefined {
  return text === NEVER ? undefined : parseDuration(text);
}

async function whatItNames(
  environment: Environment,
  scope: Scope,
  options: OptionValues,
): Promise<{ tenant?: TenantId; timeline?: TimelineId }> {
  if (!OF_A_TENANT.has(scope)) return {};
  const tenant = chooseTenant(environment, optionText(options, "tenantid"));
  const branch = optionText(options, "branch");
  if (branch === undefined) return { tenant };
  await using client = new PageServerClient(pageServerAddress(environment));
  return { tenant, timeline: (await client.branch(tenant, parseBranchName(branch))).timeline_id };
}

export const tokenListCommand: Command = {
  usage: "token list",
  description: "List the tokens that were made here; not the tokens themselves",
  options: [JSON_OPTION],
  examples: [["token list", "Who may do what, and until when"]],
  run(_args, options) {
    printList(listTokens(authOf(loadEnvironment())), COLUMNS, tokenJson, options);
    return Promise.resolve();
  },
};

const COLUMNS: readonly Column<ListedToken>[] = [
  { title: "ID", cell: ({ claims }) => claims.jti },
  { title: "FOR", cell: ({ claims }) => claims.sub },
  { title: "SCOPE", cell: ({ claims }) => claims.scope },
  { title: "TENANT", cell: ({ claims }) => claims.tenant ?? "" },
  { title: "TIMELINE", cell: ({ claims }) => claims.timeline ?? (claims.masked ? "masked ones" : "") },
  { title: "STATE", cell: ({ state }) => state },
  { title: "EXPIRES", cell: ({ claims }) => claims.exp === undefined ? NEVER : inDays(claims.exp) },
];

function inDays(exp: number): string {
  const leftMs = exp * 1000 - Date.now();
  return leftMs <= 0 ? moment(exp) : `in ${formatDuration(Math.ceil(leftMs / 60_000) * 60_000)}`;
}

function moment(seconds: number): string {
  return new Date(seconds * 1000).toISOString();
}

function tokenJson({ claims, kid, state }: ListedToken): Record<string, unknown> {
  return {
    id: claims.jti,
    for: claims.sub,
    scope: claims.scope,
    tenant_id: claims.tenant ?? null,
    timeline_id: claims.timeline ?? null,
    masked: claims.masked === true,
    addresses: claims.addresses ?? [],
    safekeepers: claims.safekeepers ?? [],
    key: kid,
    state,
    made_at: moment(claims.iat),
    expires_at: claims.exp === undefined ? null : moment(claims.exp),
  };
}

export const tokenRevokeCommand: Command = {
  usage: "token revoke <id>",
  description: "Refuse a token from now on; its connections end within two seconds",
  examples: [["token revoke 6a1f0c5e", "The beginning of an id will do"]],
  async run(args) {
    const id = await revokeToken(authOf(loadEnvironment()), requiredArg(args, 0));
    print(`token ${id} revoked`);
  },
};

export const tokenRotateCommand: Command = {
  usage: "token rotate",
  description: "Make a new key, and the environment's own tokens anew with it",
  options: [
    { flags: "--retire", description: "Also refuse what older keys have signed: tokens that people have" },
  ],
  examples: [
    ["token rotate", "Older tokens stay valid"],
    ["token rotate --retire", "When a key may be known to others"],
  ],
  async run(_args, options) {
    const environment = loadEnvironment();
    const { paths } = environment;
    const auth = authOf(environment);
    const files = [
      auth.adminToken,
      auth.pageserverToken,
      ...(environment.config.safekeepers ?? []).map(({ id }) => auth.safekeeperToken(id)),
      ...allComputePlaces(environment).flatMap(({ paths: { token, walToken } }) => [token, walToken]),
    ];
    const key = await rotateKeys(auth, files.filter((file) => existsSync(file)));
    print(`key ${key} signs tokens from now on; its public half is in ${paths.auth.trusted}`);
    if (options["retire"] !== true) return;
    const gone = await retireOldKeys(auth);
    print(`what ${gone.join(", ")} signed is refused from now on`);
  },
};

/** @throws {ZenithError} `conflict` when the environment has no keys */
function authOf({ paths }: Environment): AuthPaths {
  if (hasKeys(paths.auth)) return paths.auth;
  throw new ZenithError(
    "conflict",
    `this environment has no keys: there is nothing in ${paths.auth.trusted}`,
    {
      hint: '"zenith stop", then "zenith start" makes them; with a page server elsewhere, make tokens there',
    },
  );
}
