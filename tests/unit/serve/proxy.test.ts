import assert from "node:assert/strict";
import { createHash, X509Certificate } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { duplexPair } from "node:stream";
import { after, before, describe, test } from "node:test";
import type { TLSSocket } from "node:tls";
import { ensureServerCertificate } from "../../../src/auth/certificates.ts";
import { AuthPaths } from "../../../src/common/paths.ts";
import { parseBranchName, parseTenantId } from "../../../src/common/id.ts";
import { scramVerifier } from "../../../src/compute/postgres/role_passwords.ts";
import { ScramClient } from "../../../src/pgwire/client_auth.ts";
import { SSL_REQUEST_CODE } from "../../../src/pgwire/message_types.ts";
import { receive } from "../../../src/serve/proxy/arrival.ts";
import { findDestination, type Names } from "../../../src/serve/proxy/destination.ts";
import { tlsServerEndPoint } from "../../../src/serve/proxy/end_point.ts";
import { int32 } from "../../../src/serve/proxy/messages.ts";
import {
  mockVerifier,
  parseVerifier,
  provePassword,
  type ScramDialogue,
} from "../../../src/serve/proxy/scram_server.ts";
import { relay } from "../../../src/serve/proxy/relay.ts";
import { Wire } from "../../../src/serve/proxy/wire.ts";
import { Directory } from "../../../src/serve/state/directory.ts";
import { isAllowed } from "../../../src/serve/state/ip_list.ts";
import { State } from "../../../src/serve/state/state.ts";

const TENANT = parseTenantId("1".repeat(32));
const OTHER = parseTenantId("2".repeat(32));

describe("SCRAM, the server's side", () => {
  const verifier = parseVerifier(scramVerifier("pencil"))!;
  const dialogue = (
    client: ScramClient,
    mechanism = "SCRAM-SHA-256",
    first = client.firstMessage(),
  ): ScramDialogue => ({
    mechanism,
    clientFirst: first,
    challenge: (serverFirst) => client.finalMessage(serverFirst),
  });

  test("gives the keys of the password to whom it believes, and proves itself", async () => {
    const client = new ScramClient("pencil");
    const { keys, serverFinal } = await provePassword(dialogue(client), verifier, "u", undefined);
    client.verify(serverFinal);
    // With the keys one logs in as with the password.
    const again = new ScramClient(keys);
    await provePassword(dialogue(again), verifier, "u", undefined);
  });

  test("believes nobody else", async () => {
    const wrong = provePassword(dialogue(new ScramClient("pen")), verifier, "u", undefined);
    await assert.rejects(wrong, /password authentication failed for user "u"/);
    const mock = mockVerifier("u", "e");
    assert.deepEqual(mock, mockVerifier("u", "e"));
    assert.notDeepEqual(mock, mockVerifier("v", "e"));
    const unknown = provePassword(dialogue(new ScramClient("pencil")), mock, "u", undefined);
    await assert.rejects(unknown, /password authentication failed/);
  });

  test("sees when somebody has taken the binding to the channel away", async () => {
    const client = new ScramClient("pencil");
    const binding = Buffer.from("certificate");
    const downgraded = client.firstMessage().replace(/^n,,/, "y,,");
    const attempt = provePassword(dialogue(client, "SCRAM-SHA-256", downgraded), verifier, "u", binding);
    await assert.rejects(attempt, /channel binding negotiation error/);
    for (
      const [mechanism, first] of [
        ["SCRAM-SHA-256-PLUS", client.firstMessage()],
        ["SCRAM-SHA-256", client.firstMessage().replace(/^n,,/, "p=tls-server-end-point,,")],
        ["SCRAM-SHA-256-PLUS", client.firstMessage().replace(/^n,,/, "p=tls-unique,,")],
        ["SCRAM-SHA-1", client.firstMessage()],
        ["SCRAM-SHA-256", ""],
        ["SCRAM-SHA-256", "n,,n=,r="],
        ["SCRAM-SHA-256", "n,,n=,r=a,b"],
      ] as const
    ) {
      await assert.rejects(
        provePassword(dialogue(client, mechanism, first), verifier, "u", binding),
        mechanism + first,
      );
    }
    // Bound to another certificate than ours.
    const other = provePassword(
      {
        mechanism: "SCRAM-SHA-256-PLUS",
        clientFirst: client.firstMessage().replace(/^n,,/, "p=tls-server-end-point,,"),
        challenge: async (first) =>
          (await client.finalMessage(first)).replace("c=biws", `c=${btoa("p=tls-server-end-point,,other")}`),
      },
      verifier,
      "u",
      binding,
    );
    await assert.rejects(other, /channel binding check failed/);
  });

  test("reads what PostgreSQL stores, and nothing else", () => {
    for (const text of ["", "md5" + "0".repeat(32), "SCRAM-SHA-256$4096:c2FsdA==$x:y"]) {
      assert.equal(parseVerifier(text), undefined);
    }
  });
});

describe("a certificate's binding", () => {
  let dir: string;
  before(() => dir = mkdtempSync(join(tmpdir(), "zenith-serve-")));
  after(() => rmSync(dir, { recursive: true, force: true }));

  test("is its hash by the algorithm that signed it", async () => {
    const auth = new AuthPaths(dir);
    await ensureServerCertificate(auth, ["*.db.example.org"]);
    const pem = readFileSync(auth.serverCertificate, "utf8");
    const expected = createHash("sha256").update(new X509Certificate(pem).raw).digest();
    assert.deepEqual(tlsServerEndPoint(pem), expected);
  });
});

describe("a client's arrival", () => {
  test("has to end in time, with TLS too", async () => {
    const [near, far] = duplexPair();
    const [encrypted] = duplexPair();
    const wire = new Wire(near);
    wire.setDeadline(20, "too slow");
    const arrival = receive(wire, () => ({ socket: encrypted as TLSSocket, cert: "" }));
    far.write(Buffer.concat([int32(8), int32(SSL_REQUEST_CODE)]));
    const [answer] = await once(far, "data");
    assert.equal(String(answer), "S");
    await assert.rejects(arrival, /too slow/);
  });
});

describe("the relay", () => {
  const traffic = () => ({ toServer: 0, toClient: 0 });

  test("lets go of a Postgres whose client has left before it was awake", async () => {
    const [client] = duplexPair();
    client.destroy();
    await once(client, "close");
    const [server, postgres] = duplexPair();
    const over = relay(client, server, traffic());
    postgres.resume();
    await once(postgres, "end");
    postgres.end();
    await over;
  });

  test("hears the end of a client that has said all that it wants", async () => {
    const [client, far] = duplexPair();
    const wire = new Wire(client);
    far.end("query");
    assert.equal(String(await wire.read(5)), "query");
    await assert.rejects(wire.read(1), /closed the connection/);
    wire.release();
    const [server, postgres] = duplexPair();
    const over = relay(client, server, traffic());
    postgres.resume();
    await once(postgres, "end");
    postgres.end("rows");
    const [rows] = await once(far, "data");
    assert.equal(String(rows), "rows");
    await over;
  });
});

describe("the destination", () => {
  const state = new State(":memory:");
  const directory = new Directory(state);
  const [main, dev] = directory.sync(TENANT, [
    { name: "main", timeline_id: "a".repeat(32) },
    { name: "dev", timeline_id: "b".repeat(32) },
  ]);
  const names: Names = {
    directory,
    domain: "db.example.org",
    defaultTenant: OTHER,
    defaultBranch: parseBranchName("main"),
  };
  const find = (host: string | undefined, more: Record<string, string> = {}) => {
    const params = new Map(Object.entries({ user: "u", database: "d", ...more }));
    const { tenant, branch, moment, params: passed } = findDestination(params, host, names);
    return { tenant, branch, moment, params: Object.fromEntries(passed) };
  };
  after(() => state[Symbol.dispose]());

  test("is named by the host, by an option, or by the database", () => {
    const plain = { moment: undefined, params: { user: "u", database: "d" } };
    const toDev = { tenant: TENANT, branch: "dev", ...plain };
    assert.deepEqual(find(`${dev!.endpoint}.db.example.org`), toDev);
    assert.deepEqual(find(`${dev!.endpoint}-pooler.db.example.org`), toDev);
    assert.deepEqual(find(`${dev!.id}.db.example.org`), toDev);
    assert.deepEqual(find(undefined, { options: `endpoint=${dev!.endpoint}` }), toDev);
    assert.deepEqual(find("db.example.org", { options: `project=${dev!.endpoint}` }), toDev);
    assert.deepEqual(find("feature.db.example.org"), { tenant: OTHER, branch: "feature", ...plain });
    for (const host of [undefined, "db.example.org", "elsewhere.org", "a.b.db.example.org"]) {
      assert.deepEqual(find(host), { tenant: OTHER, branch: "main", ...plain });
    }
    assert.deepEqual(find(undefined, { database: `${TENANT}/feature/x` }), {
      tenant: TENANT,
      branch: "feature/x",
      moment: undefined,
      params: { user: "u", database: "postgres" },
    });
  });

  test("keeps Postgres's own options as they are", () => {
    const options = String.raw`endpoint=${
      main!.endpoint
    } -c search_path=a\ b,c neon_lsn:0/10 --work_mem=1MB neon_other:x`;
    const { params, moment } = find(undefined, { options });
    assert.equal(params["options"], String.raw`-c search_path=a\ b,c --work_mem=1MB`);
    assert.deepEqual(moment, { kind: "lsn", lsn: 16 });
  });

  test("has to be one, and to exist", () => {
    assert.throws(
      () => find(`${dev!.endpoint}.db.example.org`, { options: `endpoint=${main!.endpoint}` }),
      /inconsistent/,
    );
    assert.throws(() => find(undefined, { options: "endpoint=a project=b" }), /inconsistent/);
    for (const label of ["ep-no-such-one", "br-no-such-one"]) {
      assert.throws(() => find(`${label}.db.example.org`), /there is no endpoint/);
    }
    assert.throws(() => find(undefined, { options: "neon_lsn:x" }));
    assert.throws(() => find(undefined, { database: `${TENANT}/../x` }));
  });
});

describe("a branch's ids", () => {
  test("stay through renames and restores, whoever makes them", () => {
    using state = new State(":memory:");
    const directory = new Directory(state);
    const sync = (branches: Record<string, string>) =>
      directory.sync(TENANT, Object.entries(branches).map(([name, timeline_id]) => ({ name, timeline_id })));
    const [main, dev] = sync({ main: "t1", dev: "t2" });
    const renamed = sync({ main: "t1", dev2: "t2" });
    assert.deepEqual(renamed.map(({ id }) => id), [main!.id, dev!.id]);
    // Restored, and what it was kept under another name.
    const [restored, kept] = sync({ dev2: "t3", old: "t2", main: "t1" });
    assert.equal(restored!.id, dev!.id);
    assert.ok(![main!.id, dev!.id].includes(kept!.id));
    sync({ main: "t1" });
    assert.equal(directory.byId(dev!.id), undefined);
    assert.equal(directory.byId(main!.id)?.name, "main");
  });
});

describe("an address list", () => {
  test("takes addresses, networks and ranges of both families", () => {
    const list = ["192.0.2.7", "10.0.0.0/8", "192.0.2.10-192.0.2.12", "2001:db8::/32"];
    for (const address of ["192.0.2.7", "::ffff:192.0.2.7", "10.1.2.3", "192.0.2.11", "2001:db8::1"]) {
      assert.ok(isAllowed(address, list), address);
    }
    for (const address of ["192.0.2.8", "192.0.2.13", "11.0.0.1", "2001:db9::1", "", "x"]) {
      assert.ok(!isAllowed(address, list), address);
    }
  });
});
