/** An environment whose servers listen where other machines reach them: by TLS, or not at all. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { networkInterfaces, tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { ensureServerCertificate } from "../../src/auth/certificates.ts";
import { formatHostPort } from "../../src/common/host_port.ts";
import { AuthPaths } from "../../src/common/paths.ts";
import { PgClient } from "../../src/pgwire/client.ts";
import { childOutput } from "../harness/child_output.ts";
import { runZenith } from "../harness/cli.ts";
import { freePort } from "../harness/ports.ts";
import { clientProgram } from "../harness/postgres_major.ts";
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
  function psql(conninfo: string, command: string) {
    const { host, port } = env.pageserver.address;
    const login = `host=${host} port=${port} user=x dbname=zenith connect_timeout=10 ${conninfo}`;
    return childOutput(
      spawn(clientProgram("psql"), ["-XAt", "-d", login, "-c", command], {
        env: { ...process.env, PGPASSWORD: env.token },
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
