/**
 * Every command of the page server and the safekeeper, tried by every kind of client, over the wire. What there is to
 * try is in tests/harness/security_rows.ts; a unit test compares it with the management contract.
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import type { Grant } from "../../src/auth/claims.ts";
import { makeKey } from "../../src/auth/key_files.ts";
import { signToken } from "../../src/auth/sign.ts";
import { generateTenantId, generateTimelineId } from "../../src/common/id.ts";
import { formatHostPort, type HostPort } from "../../src/common/host_port.ts";
import { AuthPaths } from "../../src/common/paths.ts";
import { encodeMessage } from "../../src/consensus/message_codec.ts";
import { createToken, revokeToken } from "../../src/control/tokens.ts";
import { type ConnectOptions, PgClient } from "../../src/pgwire/client.ts";
import { PgError } from "../../src/pgwire/sqlstate.ts";
import { RECOVERY_TERM_OPTION, timelineOptions } from "../../src/protocol/wal_connection.ts";
import {
  ADDRESS,
  BACKUP_ROWS,
  ONE,
  PAGE_SERVER_ROWS,
  REPLICATION_ROWS,
  SAFEKEEPER_ROWS,
  tenant,
  timeline,
  VALID,
  type Valid,
  WRITER,
} from "../harness/security_rows.ts";
import { ZenithEnv } from "../harness/zenith_env.ts";

const otherTenant = generateTenantId();
const otherTimeline = generateTimelineId();
let env: ZenithEnv;

/** Tokens that would be good for everything here, had nothing happened to them. */
const INVALID = [
  "none",
  "not a token",
  "forged",
  "expired",
  "revoked",
  "of another installation",
  "bound to a certificate",
] as const;
/** Good tokens for something else. */
const FOREIGN = [
  "tenant of another",
  "read of another",
  "compute of another timeline",
  "read of another timeline",
  "tenant of what is masked",
  "read of what is masked",
];
const MASKED = ["tenant of what is masked", "read of what is masked"];
const OF_OTHERS = ["compute of another timeline", "read of another timeline"];
/** What those may ask whose tokens are for masked branches alone, here where there is none. */
const WITHOUT_MASKED = new Set(["tenant_status", "tenant_limits", "branch_list"]);
const tokens = new Map<string, string | undefined>();

before(async () => {
  env = await ZenithEnv.create({ safekeepers: 1 });
  const { auth } = env.paths;
  const sign = async (grant: Grant, lifetimeMs?: number) =>
    (await signToken(auth, "a test", grant, lifetimeMs)).text;
  const where = { addresses: [ADDRESS], safekeepers: [ADDRESS] };
  tokens.set("admin", await sign({ scope: "admin" }));
  tokens.set("tenant", await sign({ scope: "tenant", tenant, ...where }));
  tokens.set("read", await sign({ scope: "read", tenant }));
  tokens.set("compute", await sign({ scope: "compute", tenant, timeline, ...where }));
  tokens.set("safekeeper", await sign({ scope: "safekeeper", ...where }));
  tokens.set("pageserver", await sign({ scope: "pageserver" }));

  tokens.set("tenant of another", await sign({ scope: "tenant", tenant: otherTenant, ...where }));
  tokens.set("read of another", await sign({ scope: "read", tenant: otherTenant }));
  const computeOfAnother: Grant = { scope: "compute", tenant, timeline: otherTimeline, ...where };
  tokens.set("compute of another timeline", await sign(computeOfAnother));
  tokens.set("read of another timeline", await sign({ scope: "read", tenant, timeline: otherTimeline }));

  tokens.set("tenant of what is masked", await sign({ scope: "tenant", tenant, masked: true, ...where }));
  tokens.set("read of what is masked", await sign({ scope: "read", tenant, masked: true }));

  tokens.set("none", undefined);
  tokens.set("not a token", "postgres");
  const [head, body, signature] = tokens.get("read")!.split(".");
  const admin = tokens.get("admin")!.split(".");
  tokens.set("forged", [head, admin[1], signature].join("."));
  assert.notEqual(body, admin[1]);
  const cnf = { "x5t#S256": "A".repeat(43) };
  tokens.set("bound to a certificate", await sign({ scope: "admin", cnf }));
  tokens.set("expired", await sign({ scope: "admin" }, -3_600_000));
  const { text, claims } = await createToken(auth, "a test", { scope: "admin" }, undefined);
  await revokeToken(auth, claims.jti);
  tokens.set("revoked", text);
  const other = new AuthPaths(`${env.dir}/other`);
  await makeKey(other);
  tokens.set("of another installation", (await signToken(other, "a test", { scope: "admin" })).text);
});
after(() => env[Symbol.asyncDispose]());

const REFUSED = new Set(["28P01", "42501"]);

type Attempt = (client: PgClient) => Promise<unknown>;

/** @returns why the client was refused; undefined when it was let in, whatever came of it */
async function refusal(
  address: HostPort,
  caller: string,
  options: ConnectOptions,
  attempt: Attempt,
): Promise<string | undefined> {
  const { host, port } = address;
  const password = tokens.get(caller);
  try {
    const login = { ...options, host, port, user: "anybody", database: "zenith" };
    await using client = await PgClient.connect({
      ...login,
      ...(password === undefined ? {} : { password }),
    });
    await attempt(client);
  } catch (error) {
    if (error instanceof PgError && REFUSED.has(error.sqlstate)) return error.message;
    if (!(error instanceof PgError)) throw error;
  }
  return undefined;
}

/** Tries one command as everybody. */
async function tryAs(
  address: HostPort,
  by: readonly Valid[],
  attempt: Attempt,
  options: ConnectOptions = {},
  also: readonly (typeof FOREIGN)[number][] = [],
): Promise<void> {
  const letIn: string[] = [];
  for (const caller of [...VALID, ...FOREIGN, ...INVALID]) {
    if (await refusal(address, caller, options, attempt) === undefined) letIn.push(caller);
  }
  const others = FOREIGN.filter((caller) => also.includes(caller));
  assert.deepEqual(letIn, [...VALID.filter((caller) => by.includes(caller)), ...others]);
}

/** Sends a command; one that answers with a stream is ended at once. */
function sending(command: string): Attempt {
  return async (client) => {
    if (!/^(pagestream|compute_attach|tenant_import|START_REPLICATION)/.test(command)) {
      await client.query(command);
      return;
    }
    const copy = await client.copyBoth(command);
    copy.end();
    await copy.run({ onData() {} });
  };
}

/** Sends what names the timeline in a stream of its own. */
async function pushing(client: PgClient): Promise<void> {
  const copy = await client.copyBoth("START_WAL_PUSH");
  const answered = new Promise<void>((resolve, reject) => {
    copy.run({ onData: () => resolve() }).then(resolve, reject);
  });
  copy.send(encodeMessage({
    type: "ServerInfo",
    protocolVersion: 2,
    proposerId: "0".repeat(32),
    tenantId: tenant,
    timelineId: timeline,
    systemId: 1n,
    pgVersion: 15,
    segmentSize: 1 << 24,
  }));
  await answered;
  client.destroy();
}

for (
  const [server, rows] of [
    ["page server", PAGE_SERVER_ROWS],
    ["safekeeper", SAFEKEEPER_ROWS],
  ] as const
) {
  describe(`every command of the ${server}`, () => {
    const address = () => server === "page server" ? env.pageserver.address : env.safekeepers[0]!.address;

    for (const [name, { args, by }] of Object.entries(rows)) {
      test(`${name} lets in ${by.join(", ")}, and nobody else`, async () => {
        const attempt = name === "start_wal_push" ? pushing : sending(`${name} ${args}`.trim());
        const also = server === "page server" && WITHOUT_MASKED.has(name) ? MASKED : [];
        // Whoever may do something with the tenant may know where it is.
        await tryAs(address(), by, attempt, {}, name === "tenant_place" ? [...MASKED, ...OF_OTHERS] : also);
      });
    }
  });
}

describe("every command of PostgreSQL's replication protocol", () => {
  const options = timelineOptions(tenant, timeline);
  for (const [name, { args, by }] of Object.entries(REPLICATION_ROWS)) {
    test(`${name} lets in ${by.join(", ")}, and nobody else`, async () => {
      const attempt = sending(`${name} ${args}`.trim());
      await tryAs(env.safekeepers[0]!.address, by, attempt, { options, replication: true });
    });
  }

  for (const [name, { args, by }] of Object.entries(BACKUP_ROWS)) {
    test(`${name} lets in ${by.join(", ")}, and nobody else, at the page server`, async () => {
      const attempt = sending(`${name} ${args}`.trim());
      await tryAs(env.pageserver.address, by, attempt, { options, replication: true });
    });
  }

  test("is not for those who read what is not committed, but for the timeline's writer", async () => {
    const recovering = { options: `${options} -c ${RECOVERY_TERM_OPTION}=1`, replication: true };
    await tryAs(env.safekeepers[0]!.address, WRITER, sending("START_REPLICATION PHYSICAL 0/1"), recovering);
  });

  test("has to name the timeline", async () => {
    const by: Valid[] = ["admin", "pageserver"];
    await tryAs(env.safekeepers[0]!.address, by, sending("IDENTIFY_SYSTEM"), { replication: true });
  });
});

describe("an address", () => {
  const refused = (caller: string, command: string) =>
    refusal(env.pageserver.address, caller, {}, sending(command));

  test("is named only when the token has it", async () => {
    for (const place of ["169.254.169.254", "127.0.0.1", "localhost", "example.org"]) {
      for (const caller of ["tenant", "compute", "safekeeper"]) {
        const message = await refused(caller, `callmemaybe ${ONE} host=${place} port=80`);
        assert.match(message ?? "let in", new RegExp(`may not name the address ${place}:80`));
      }
      const followed = await refused("tenant", `follow_resume ${tenant} one host=${place} port=80`);
      assert.match(followed ?? "let in", new RegExp(`may not name the address ${place}:80`));
      for (const caller of ["tenant", "compute"]) {
        const list = `${ADDRESS},${formatHostPort({ host: place, port: 80 })}`;
        assert.match(
          await refused(caller, `timeline_safekeepers ${ONE} ${list}`) ?? "let in",
          /may not name/,
        );
      }
    }
  });

  test("is never a Unix socket", async () => {
    await using client = await PgClient.connect({ ...env.pageserver.address, password: env.token });
    await assert.rejects(
      client.query(`callmemaybe ${ONE} host=/var/run/postgresql port=5432`),
      /expected a TCP address, not a Unix socket/,
    );
  });
});
