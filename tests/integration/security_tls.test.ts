/** An environment whose servers listen where other machines reach them: by TLS, or not at all. */
import "reflect-metadata";
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { once } from "node:events";
import { networkInterfaces, tmpdir } from "node:os";
import { connect as connectTls } from "node:tls";
import { join } from "node:path";
import { PemConverter, X509CertificateGenerator } from "@peculiar/x509";
import { after, before, describe, test } from "node:test";
import { ensureServerCertificate } from "../../src/auth/certificates.ts";
import { formatHostPort } from "../../src/common/host_port.ts";
import { AuthPaths } from "../../src/common/paths.ts";
import { PgClient } from "../../src/pgwire/client.ts";
import { childOutput } from "../harness/child_output.ts";
import { runZenith } from "../harness/cli.ts";
import { freePort } from "../harness/ports.ts";
import { clientProgram } from "../harness/postgres_major.ts";
import { assertStrongTls, SCAN } from "../harness/sslscan.ts";
import { ZenithEnv } from "../harness/zenith_env.ts";

const HOST = Object.values(networkInterfaces()).flat()
  .find((address) => address?.family === "IPv4" && !address.internal)?.address;

const OPTIONS = { skip: HOST === undefined && "this machine has no address but loopback" };

describe("servers that other machines reach", OPTIONS, () => {
  let env: ZenithEnv;

  before(async () => {
    env = await ZenithEnv.create({ safekeepers: 1, host: HOST! });
  });
  after(() => env[Symbol.asyncDispose]());

  /** What stock psql says to a command. */
  function psql(conninfo: string, command: string, password = env.token) {
    const { host, port } = env.pageserver.address;
    const login = `host=${host} port=${port} user=x dbname=zenith connect_timeout=10 ${conninfo}`;
    return childOutput(
      spawn(clientProgram("psql"), ["-XAt", "-d", login, "-c", command], {
        env: { ...process.env, PGPASSWORD: password },
        stdio: ["ignore", "pipe", "pipe"],
      }),
    );
  }

  test("serve everybody in the environment without a step more", async () => {
    const main = await env.startCompute("main");
    await main.query("CREATE TABLE t AS SELECT generate_series(1, 1000) n");
    await env.branch("dev", "main");
    const dev = await env.startCompute("dev");
    assert.equal(await dev.value("SELECT count(*)::int FROM t"), 1000);
    await main.query("INSERT INTO t VALUES (0)");
    await env.untilArrived("main");
    assert.match((await env.tryZenith("status")).stdout, /all is well/);
    const { auth } = env.paths;
    for (const file of [auth.caKey, auth.serverKey]) assert.equal(statSync(file).mode & 0o777, 0o600);
  });

  test("let psql verify them in full, and have nothing to say to who doesn't ask for TLS", async () => {
    const trust = `sslrootcert=${env.paths.auth.caCertificate}`;
    const good = await psql(`sslmode=verify-full ${trust}`, "tenant_list");
    assert.equal(good.code, 0, good.stderr);
    assert.match(good.stdout, new RegExp(env.defaultTenant));
    assert.match(
      (await psql("sslmode=disable", "tenant_list")).stderr,
      /connections from other machines must be encrypted/,
    );
    const other = new AuthPaths(join(env.dir, "other"));
    await ensureServerCertificate(other, [HOST!]);
    const foreign = await psql(`sslmode=verify-full sslrootcert=${other.caCertificate}`, "tenant_list");
    assert.match(foreign.stderr, /certificate verify failed/);
  });

  test("are not told the token by our clients when somebody else answers in their place", async () => {
    const { auth } = env.paths;
    const kept = readFileSync(auth.caCertificate, "utf8");
    const other = new AuthPaths(join(env.dir, "another"));
    await ensureServerCertificate(other, [HOST!]);
    const { host, port } = env.pageserver.address;
    const tls = (ca: string, name = HOST!) => ({ tls: { ca, host: name } });
    const login = { host, port, user: "x", password: env.token };
    await using client = await PgClient.connect({ ...login, ...tls(kept) });
    await client.query("status");
    for (const wrong of [tls(readFileSync(other.caCertificate, "utf8")), tls(kept, "db1.example.org")]) {
      await assert.rejects(PgClient.connect({ ...login, ...wrong }), /does not prove to be that server/);
    }
  });

  test("offer nothing weak to sslscan", SCAN, async () => {
    for (const { host, port } of [env.pageserver.address, env.safekeepers[0]!.address]) {
      await assertStrongTls({ host, port }, "--starttls-psql");
    }
  });

  test("speak TLS after SSLRequest, with ALPN postgresql", async () => {
    const { host, port } = env.pageserver.address;
    const plain = connect({ host, port });
    await once(plain, "connect");
    plain.write(new Uint8Array([0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f]));
    const [answer] = await once(plain, "data") as [Uint8Array];
    assert.equal(answer.toString(), "S");
    const ca = readFileSync(env.paths.auth.caCertificate, "utf8");
    const socket = connectTls({ socket: plain, ca, host, ALPNProtocols: ["postgresql"] });
    await once(socket, "secureConnect");
    assert.equal(socket.alpnProtocol, "postgresql");
    assert.equal(socket.authorized, true);
    socket.destroy();
  });

  test("believe a token that is bound to a certificate only together with that one and its key", async () => {
    const make = async (name: string) => {
      const cert = join(env.dir, `${name}.pem`);
      const key = join(env.dir, `${name}.key`);
      const keys = await crypto.subtle.generateKey({ name: "ECDSA", namedCurve: "P-256" }, true, [
        "sign",
        "verify",
      ]);
      const certificate = await X509CertificateGenerator.createSelfSigned({
        serialNumber: "01",
        name: "CN=somebody",
        notBefore: new Date(Date.now() - 3_600_000),
        notAfter: new Date(Date.now() + 3_600_000),
        signingAlgorithm: { name: "ECDSA", hash: "SHA-256" },
        keys,
      });
      writeFileSync(cert, certificate.toString("pem"));
      const der = await crypto.subtle.exportKey("pkcs8", keys.privateKey);
      writeFileSync(key, PemConverter.encode(der, "PRIVATE KEY"), { mode: 0o600 });
      return { cert, key };
    };
    const [mine, other] = [await make("mine"), await make("other")];
    const bound = (await env.zenith("token", "create", "me", "--scope", "admin", "--certificate", mine.cert))
      .trim();
    const ask = async (more: string, mode = "verify-full") => {
      const login = `sslmode=${mode} sslrootcert=${env.paths.auth.caCertificate} ${more}`;
      const { code, stderr } = await psql(login, "tenant_list", bound);
      return code === 0 ? "let in" : stderr;
    };
    assert.equal(await ask(`sslcert=${mine.cert} sslkey=${mine.key}`), "let in");
    assert.match(await ask("sslcert=/none"), /needs the certificate that it was made for/);
    assert.match(
      await ask(`sslcert=${other.cert} sslkey=${other.key}`),
      /needs the certificate that it was made for/,
    );
    assert.notEqual(await ask(`sslcert=${mine.cert} sslkey=${other.key}`), "let in");
    const none = await env.tryZenith("token", "create", "me", "--scope", "admin", "--certificate", mine.key);
    assert.match(none.stderr, /mine\.key is no certificate in PEM/);
  });

  test("take a new certificate without a restart", async () => {
    const { auth } = env.paths;
    assert.equal(await ensureServerCertificate(auth, [HOST!, "renamed.example.org"]), true);
    const { host, port } = env.pageserver.address;
    const ca = readFileSync(auth.caCertificate, "utf8");
    const login = { host, port, user: "x", password: env.token, tls: { ca, host: "renamed.example.org" } };
    await using client = await PgClient.connect(login);
    await client.query("status");
  });

  test("don't start there without a certificate, or without keys", async () => {
    const directory = mkdtempSync(join(tmpdir(), "zenith-bare-"));
    try {
      const { auth } = env.paths;
      const listen = ["-l", formatHostPort({ host: HOST!, port: await freePort() })];
      for (const role of ["pageserver", "safekeeper"]) {
        const run = async (...args: string[]) =>
          (await runZenith([role, "-D", directory, ...listen, ...args], {})).stderr;
        assert.match(await run("--insecure"), /--insecure lets everybody do everything/);
        assert.match(await run(), /there are no keys in/);
        const missing = ["--tls-cert", join(directory, "none.pem"), "--tls-key", auth.serverKey];
        assert.match(await run("--auth", auth.dir, ...missing), /could not read .*none\.pem/);
        const mixed = ["--tls-cert", auth.serverCertificate, "--tls-key", auth.caKey];
        assert.match(await run("--auth", auth.dir, ...mixed), /are no certificate with its key/);
      }
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  });
});
