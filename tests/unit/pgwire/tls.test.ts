import assert from "node:assert/strict";
import { copyFileSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import { ensureServerCertificate } from "../../../src/auth/certificates.ts";
import { errorMessage } from "../../../src/common/errors.ts";
import { AuthPaths } from "../../../src/common/paths.ts";
import { PgClient } from "../../../src/pgwire/client.ts";
import { PgServer } from "../../../src/pgwire/server.ts";
import type { Session } from "../../../src/pgwire/session.ts";
import { type ClientTls, ServerTls } from "../../../src/pgwire/tls.ts";

const LARGE = 3_000_000;

let dir: string;
let auth: AuthPaths;
let tls: ServerTls;
let server: PgServer;
let address: { host: string; port: number };
let ca: string;
const problems: unknown[] = [];
const onError = (error: unknown) => void problems.push(error);

before(async () => {
  dir = mkdtempSync(join(tmpdir(), "zenith-tls-"));
  auth = new AuthPaths(join(dir, "auth"));
  await ensureServerCertificate(auth, ["db1.example.org", "127.0.0.1", "::1"]);
  ca = readFileSync(auth.caCertificate, "utf8");
});
after(() => rmSync(dir, { recursive: true, force: true }));

beforeEach(async () => {
  tls = new ServerTls({ cert: auth.serverCertificate, key: auth.serverKey, onError });
  const encrypted: boolean[] = [];
  server = new PgServer({
    describe: () => null,
    async query(session: Session, sql: string): Promise<void> {
      if (sql === "large") {
        await session.copyOut((async function* () {
          yield new Uint8Array(LARGE).fill(7);
        })());
      } else session.sendRows([{ name: "encrypted", type: "text" }], [[String(encrypted.at(-1))]]);
    },
  }, {
    negotiation: {
      encrypt: (socket) => tls.encrypt(socket),
      authenticate: (dialogue) => void encrypted.push(dialogue.encrypted),
    },
  });
  address = await server.listen({ host: "127.0.0.1", port: 0 });
});
afterEach(() => server.close());

function connectTo(host: string, trusted = ca): Promise<PgClient> {
  return PgClient.connect({ ...address, user: "x", tls: { ca: trusted, host }, connectTimeoutMs: 5_000 });
}

describe("a connection with TLS", () => {
  test("is made when the certificate has the server's name or address, and carries what others do", async () => {
    for (const name of ["127.0.0.1", "db1.example.org"]) {
      await using client = await connectTo(name);
      assert.deepEqual((await client.query("x")).rows, [["true"]]);
      let bytes = 0;
      for await (const chunk of client.copyOut("large")) bytes += chunk.length;
      assert.equal(bytes, LARGE);
    }
    await using plain = await PgClient.connect({ ...address, user: "x" });
    assert.deepEqual((await plain.query("x")).rows, [["false"]]);
  });

  test("is not made with a server that has another name, or another authority's word", async () => {
    for (const name of ["db2.example.org", "10.0.0.1"]) {
      await assert.rejects(connectTo(name), /does not prove to be that server/);
    }
    const other = new AuthPaths(join(dir, "other"));
    await ensureServerCertificate(other, ["127.0.0.1"]);
    const foreign = readFileSync(other.caCertificate, "utf8");
    await assert.rejects(connectTo("127.0.0.1", foreign), /does not prove to be that server/);
  });

  test("is verified as much as it is asked to be", async () => {
    const other = new AuthPaths(join(dir, "another"));
    await ensureServerCertificate(other, ["127.0.0.1"]);
    const foreign = readFileSync(other.caCertificate, "utf8");
    const login = (tls: ClientTls) =>
      PgClient.connect({ ...address, user: "x", tls, connectTimeoutMs: 5_000 });
    await using byAuthority = await login({ ca, host: "10.0.0.1", verify: "authority" });
    assert.deepEqual((await byAuthority.query("x")).rows, [["true"]]);
    await assert.rejects(login({ ca: foreign, host: "127.0.0.1", verify: "authority" }), /does not prove/);
    await using byNothing = await login({ ca: foreign, host: "10.0.0.1", verify: "nothing" });
    assert.deepEqual((await byNothing.query("x")).rows, [["true"]]);
  });

  test("is not made by whoever was asked for it, and does not know how", async () => {
    const asked = PgClient.connect({ ...address, user: "x", sslMode: "require" });
    await assert.rejects(asked, /sslmode=require: this connection is not encrypted/);
  });

  test("is not given up for one without, when the server has none", async () => {
    const open = new PgServer({ describe: () => null, query: async () => {} });
    const { port } = await open.listen({ host: "127.0.0.1", port: 0 });
    const optional = { host: "127.0.0.1", isOptional: true };
    await using plain = await PgClient.connect({ host: "127.0.0.1", port, user: "x", tls: optional });
    assert.equal(plain.closed, false);
    const login = { host: "127.0.0.1", port, user: "x", password: "secret", tls: { ca, host: "127.0.0.1" } };
    await assert.rejects(PgClient.connect(login), /has no TLS, without which nothing is sent there/);
    await open.close();
  });

  test("that stops in the middle is ended by either side", async () => {
    await using client = await connectTo("127.0.0.1");
    const silent = connect(address.port, address.host);
    silent.on("error", () => {});
    silent.write(Uint8Array.of(0, 0, 0, 8, 4, 0xd2, 0x16, 0x2f));
    await new Promise((resolve) => silent.once("data", resolve));
    silent.write("no handshake");
    await new Promise((resolve) => silent.once("close", resolve));
    assert.deepEqual((await client.query("x")).rows, [["true"]]);
  });
});

describe("a server's certificate", () => {
  test("is in files of its owner's alone, and made anew when a name is missing", async () => {
    const mode = (path: string) => (statSync(path).mode & 0o777).toString(8);
    for (const path of [auth.caKey, auth.serverKey]) assert.equal(mode(path), "600");
    assert.equal(mode(auth.tls), "700");
    assert.equal(await ensureServerCertificate(auth, ["127.0.0.1", "::1", "DB1.example.org"]), false);
    assert.equal(
      await ensureServerCertificate(auth, ["127.0.0.1", "db3.example.org", "db1.example.org"]),
      true,
    );
    // The server notices by itself, and the authority is the same.
    await using client = await connectTo("db3.example.org");
    assert.deepEqual((await client.query("x")).rows, [["true"]]);
  });

  test("that can't be used is no reason to give up the one before", async () => {
    const cert = join(dir, "cert.pem");
    copyFileSync(auth.serverCertificate, cert);
    tls = new ServerTls({ cert, key: auth.serverKey, onError });
    problems.length = 0;
    writeFileSync(cert, "rubbish\n");
    for (let i = 0; i < 2; i++) await (await connectTo("127.0.0.1")).close();
    assert.equal(problems.length, 1);
    assert.match(errorMessage(problems[0]), /cert\.pem and .*server\.key are no certificate with its key/);
    assert.throws(
      () => new ServerTls({ cert, key: auth.serverKey, onError }),
      /no certificate with its key/,
    );
  });
});
