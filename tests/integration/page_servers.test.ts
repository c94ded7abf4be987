/**
 * Three page servers with one object store, whose tenants are shared by way of etcd: one dies, one
 * stands still, and etcd itself goes away, under load.
 */
import assert from "node:assert/strict";
import { appendFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { describe, test } from "node:test";
import { formatHostPort } from "../../src/common/host_port.ts";
import { parseTenantId, type TenantId } from "../../src/common/id.ts";
import { loadEnvironment, pageServerAddress, saveEnvironment } from "../../src/control/environment.ts";
import { PageServerClient } from "../../src/control/page_server_client.ts";
import { checkPidFile, isRunning } from "../../src/process/pid_file.ts";
import { EtcdPlaces } from "../../src/places/etcd_places.ts";
import { parsePlacesUrl } from "../../src/places/location.ts";
import { Etcd, whyNoEtcd } from "../harness/etcd.ts";
import { freePort } from "../harness/ports.ts";
import { type Compute, until, ZenithEnv } from "../harness/zenith_env.ts";

const skip = whyNoEtcd() ?? false;
const ROWS = 20_000;
/** From the death of a page server to the first page from another one. */
const READS_GO_ON_MS = 10_000;

/** A page server with a directory of its own. */
class Server {
  readonly name: string;
  readonly #env: ZenithEnv;
  readonly #dir: string;

  constructor(env: ZenithEnv, name: string, dir: string) {
    this.#env = env;
    this.name = name;
    this.#dir = dir;
  }

  async start(): Promise<void> {
    await this.#env.zenith(
      "pageserver",
      ...["-D", this.#dir, "-l", this.name, ...this.#env.authOptions, "--daemonize"],
    );
  }

  signal(signal: NodeJS.Signals): void {
    process.kill(this.#process().pid, signal);
  }

  async kill9(): Promise<void> {
    const running = this.#process();
    process.kill(running.pid, "SIGKILL");
    await until(`${this.name} is dead`, () => !isRunning(running));
  }

  end(): void {
    const found = checkPidFile(join(this.#dir, "pageserver.pid"));
    if (found.state === "running") process.kill(found.process.pid, "SIGKILL");
  }

  #process() {
    const found = checkPidFile(join(this.#dir, "pageserver.pid"));
    if (found.state !== "running") throw new Error(`${this.name} does not run`);
    return found.process;
  }
}

/** Reads rows that were not read before, and commits what it has read, until it is stopped. */
class Load {
  readonly ended: Promise<void>;
  /** Of the last row that was read and committed. */
  last = 0;
  /** The longest that it has waited for a read and a commit since {@link goesOn} was last called. */
  longestMs = 0;
  #stopped = false;

  constructor(pg: Compute) {
    this.ended = this.#run(pg);
    // It is looked at when it is stopped; the test may have failed before that.
    this.ended.catch(() => {});
  }

  async #run(pg: Compute): Promise<void> {
    await using connection = await pg.connect();
    for (let n = 1; !this.#stopped; n++) {
      const began = performance.now();
      const row = 1 + n * 371 % ROWS;
      const found = await connection.query(`SELECT word = md5('${row}') AS ok FROM t WHERE n = ${row}`);
      assert.deepEqual(found, [{ ok: true }], `row ${row}`);
      await connection.query(`INSERT INTO seen VALUES (${n})`);
      this.last = n;
      this.longestMs = Math.max(this.longestMs, performance.now() - began);
    }
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await this.ended;
  }

  /** Waits until it has gone on for some time. @returns the longest that one read has waited, in ms */
  async goesOn(): Promise<number> {
    const { last } = this;
    await until("reads go on", () => this.last > last + 20);
    const { longestMs } = this;
    this.longestMs = 0;
    return longestMs;
  }
}

/** Asks the environment's own page server, or the next one that answers. */
async function placeOf(env: ZenithEnv, tenant: TenantId): Promise<string | undefined> {
  await using client = new PageServerClient(pageServerAddress(loadEnvironment(env.repoDir)));
  return (await client.placeList()).find(({ tenant_id }) => tenant_id === tenant)?.server;
}

async function shareTenants(root: string, etcd: Etcd): Promise<void> {
  const store = pathToFileURL(join(root, "store")).href;
  await using env = await ZenithEnv.create({ init: ["--object-store", store], safekeepers: 3, start: false });
  const settings = `places = "${etcd.url}"\nwal_upload_interval_ms = 500\n`;
  const names = [formatHostPort(env.pageserver.address)];
  for (let i = 0; i < 2; i++) names.push(`127.0.0.1:${await freePort()}`);
  const servers = names.map((name, i) => {
    const dir = i === 0 ? env.repoDir : join(root, `server${i}`);
    if (i > 0) {
      mkdirSync(dir);
      writeFileSync(join(dir, "pageserver.toml"), `object_store = "${store}"\n`);
    }
    appendFileSync(join(dir, "pageserver.toml"), settings);
    return new Server(env, name, dir);
  });
  const { paths, config } = loadEnvironment(env.repoDir);
  assert.ok("listen" in config.pageserver);
  saveEnvironment({
    paths,
    config: {
      ...config,
      compute: { ...config.compute, storage: config.compute?.storage ?? "auto", overlay_max_mb: 2 },
      pageserver: { ...config.pageserver, others: names.slice(1) },
    },
  });
  await using _servers = { [Symbol.asyncDispose]: async () => servers.forEach((server) => server.end()) };
  await env.zenith("start");
  for (const server of servers.slice(1)) await server.start();
  const serverOf = (name: string) => servers.find((server) => server.name === name)!;
  const tenant = env.defaultTenant;

  const pg = await env.startCompute();
  await pg.query("CREATE TABLE t (n int PRIMARY KEY, word text, filler text)");
  await pg.query(
    `INSERT INTO t SELECT n, md5(n::text), repeat(md5(n::text), 30) FROM generate_series(1, ${ROWS}) n`,
  );
  await pg.query("CREATE TABLE seen (n int PRIMARY KEY)");
  await pg.stop();
  await pg.start();
  const load = new Load(pg);
  await load.goesOn();

  // On purpose, to and fro.
  for (const to of [names[1]!, names[2]!, names[1]!]) {
    await env.zenith("tenant", "move", tenant, to);
    assert.equal(await placeOf(env, tenant), to);
    await load.goesOn();
  }
  await env.branch("moved", "main");

  // It dies.
  await serverOf(names[1]!).kill9();
  let heir = names[1]!;
  await until("another one has taken over", async () => {
    heir = (await placeOf(env, tenant))!;
    return heir !== names[1];
  });
  const waitedMs = await load.goesOn();
  assert.ok(waitedMs < READS_GO_ON_MS, `a read has waited ${waitedMs} ms`);

  // etcd is away for longer than leases last. Nobody can move a tenant then, and nobody has to.
  await etcd.kill9();
  const awayAtMs = performance.now();
  await until("leases would have ended", () => performance.now() > awayAtMs + 7_000);
  await load.goesOn();
  await etcd.start();
  await until("etcd is heard again", async () => {
    return (await env.tryZenith("tenant", "move", tenant, "127.0.0.1:1")).stderr.includes("lives");
  });
  assert.equal(await placeOf(env, tenant), heir);

  // One stands still, and comes back when another has its tenant.
  await servers[1]!.start();
  const frozen = serverOf(heir);
  frozen.signal("SIGSTOP");
  await using _thaws = {
    [Symbol.asyncDispose]: async () => {
      frozen.signal("SIGCONT");
    },
  };
  let next = heir;
  await until("another one has taken over", async () => {
    next = (await placeOf(env, tenant))!;
    return next !== heir;
  });
  await load.goesOn();
  frozen.signal("SIGCONT");
  await load.goesOn();
  await until("it has let go of it", async () => {
    await using client = env.pageserver.client();
    return heir !== names[0] ||
      !(await client.status()).tenant_sizes.some(({ tenant_id }) => tenant_id === tenant);
  });
  assert.equal(await placeOf(env, tenant), next);

  await load.stop();
  // Nothing is lost, and what other computes get is the same.
  const counted = "SELECT count(*) || ' ' || max(n) FROM seen";
  assert.equal(await pg.value(counted), `${load.last} ${load.last}`);
  const sums = "SELECT md5(string_agg(n || word || filler, '' ORDER BY n)) FROM t";
  const sum = await pg.value(sums);
  await env.branch("twin", "main");
  const twin = await env.startCompute("twin");
  assert.equal(await twin.value(counted), `${load.last} ${load.last}`);
  assert.equal(await twin.value(sums), sum);
  assert.match(await env.zenith("branch", "list"), /moved/);

  // What is deleted is gone everywhere.
  const other = parseTenantId((await env.zenith("tenant", "create")).trim());
  await until("it has a place", async () => (await placeOf(env, other)) !== undefined);
  await env.zenith("tenant", "delete", other, "--yes");
  assert.ok(!(await env.zenith("tenant", "list")).includes(other));
}

describe("places in etcd", { skip }, () => {
  test("want a certificate and a password where etcd does", { timeout: 60_000 }, async () => {
    await using etcd = await Etcd.startSecured();
    const tenant = parseTenantId("a".repeat(32));
    const place = { server: "one:1", from: null, generation: 7 };
    const places = new EtcdPlaces(parsePlacesUrl(etcd.securedUrl));
    assert.deepEqual([...(await places.renew("one:1")).alive], ["one:1"]);
    assert.ok(await places.write(tenant, place, undefined));
    // It forgets whom it has let in.
    await etcd.kill9();
    await etcd.start();
    const { server, generation } = (await places.renew("one:1")).tenants.get(tenant)!;
    assert.deepEqual([server, generation], ["one:1", 7]);
    const refused = (url: string) => new EtcdPlaces(parsePlacesUrl(url)).renew("two:2");
    const without = etcd.securedUrl.replace(/&user.*/, "");
    await assert.rejects(refused(without), { kind: "unavailable", message: /user name is empty/ });
    await assert.rejects(refused(etcd.securedUrl.replace("/tests", "/others")), {
      kind: "forbidden",
      hint: 'user "zenith" needs to read and write others/',
    });
    writeFileSync(etcd.file("password"), "another word");
    await assert.rejects(refused(etcd.securedUrl), {
      kind: "forbidden",
      message: /does not let user "zenith" in: .*authentication failed/,
    });
    const nameless = etcd.securedUrl.replace(/&cert.*&user/, "&user");
    await assert.rejects(refused(nameless), { kind: "unavailable", message: /does not answer/ });
  });
});

describe("page servers that share tenants", { skip }, () => {
  test("take over from each other under load, and nothing is lost", { timeout: 240_000 }, async () => {
    const root = mkdtempSync(join(tmpdir(), "zenith-servers-"));
    try {
      await using etcd = await Etcd.start();
      await shareTenants(root, etcd);
    } finally {
      rmSync(root, { recursive: true, force: true });
    }
  });
});
