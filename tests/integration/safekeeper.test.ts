/** Safekeepers and the proposer with stock Postgres: commits wait for a quorum, and nothing that was committed is lost. */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { appendFileSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import postgres from "postgres";
import type { ZenithError } from "../../src/common/errors.ts";
import type { HostPort } from "../../src/common/host_port.ts";
import { generateTenantId, generateTimelineId } from "../../src/common/id.ts";
import { NULL_LOGGER } from "../../src/process/log.ts";
import { type Lsn, parseLsn } from "../../src/common/lsn.ts";
import { SafekeeperPaths } from "../../src/common/paths.ts";
import type { ConnectLocally } from "../../src/compute/postgres/private_socket.ts";
import { WalProposer } from "../../src/compute/proposer/wal_proposer.ts";
import { WAL_PROPOSER_NAME } from "../../src/compute/proposer/wal_source.ts";
import { postgresEnvironment } from "../../src/pg_install/initdb.ts";
import { asUser, chownRecursive, makeOwnedDirectory, pgUser } from "../../src/pg_install/pg_user.ts";
import { PgClient } from "../../src/pgwire/client.ts";
import { identifySystem } from "../../src/pgwire/replication.ts";
import { parseWalFileName } from "../../src/postgres/wal/page_header.ts";
import { connectPostgres } from "../../src/protocol/connect.ts";
import { timelineOptions } from "../../src/protocol/wal_connection.ts";
import { type RunningSafekeeper, runSafekeeper } from "../../src/safekeeper/run_safekeeper.ts";
import { StockCluster } from "../harness/stock_cluster.ts";
import { until } from "../harness/zenith_env.ts";

const SEGMENT_MIB = 1;
const SEGMENT_BYTES = SEGMENT_MIB << 20;
const OPTIONS = { timeout: 120_000 };

interface TimelineStatus {
  readonly term: number;
  readonly flush_lsn: string;
  readonly commit_lsn: string;
  readonly remote_consistent_lsn: string;
  readonly wal_bytes: number;
}

/** One of several safekeepers, in this process; it keeps its port when it is started again. */
class TestSafekeeper {
  readonly paths: SafekeeperPaths;
  readonly #id: number;
  #running: RunningSafekeeper | undefined;
  #address: HostPort = { host: "127.0.0.1", port: 0 };

  constructor(root: string, id: number) {
    this.#id = id;
    this.paths = new SafekeeperPaths(mkdtempSync(join(root, `safekeeper-${id}-`)));
  }

  get address(): HostPort {
    return this.#address;
  }

  async start(): Promise<void> {
    this.#running = await runSafekeeper({
      paths: this.paths,
      listen: this.#address,
      id: this.#id,
      logger: NULL_LOGGER,
    });
    this.#address = this.#running.address;
  }

  async stop(): Promise<void> {
    await this.#running?.stop();
    this.#running = undefined;
  }

  async status(): Promise<TimelineStatus> {
    await using client = await PgClient.connect({ ...this.#address, user: "zenith" });
    const { rows } = await client.query("TIMELINE_STATUS");
    return (JSON.parse(rows[0][0]!) as TimelineStatus[])[0];
  }
}

describe("three safekeepers and a stock Postgres", () => {
  const root = mkdtempSync(join(tmpdir(), "zenith-safekeepers-"));
  const safekeepers = [1, 2, 3].map((id) => new TestSafekeeper(root, id));
  const tenant = generateTenantId();
  const timeline = generateTimelineId();
  let cluster: StockCluster;
  let systemId = 0n;
  let startLsn: Lsn;
  let proposer: WalProposer;
  let fencedWith: ZenithError | undefined;

  function connectToCluster(options: Parameters<ConnectLocally>[0]): Promise<PgClient> {
    return connectPostgres({ host: cluster.directory, port: cluster.port }, { ...options, role: "postgres" });
  }

  function newProposer(electTimeoutMs = 20_000, lastTerm: number | null = null): WalProposer {
    return new WalProposer({
      lastTerm,
      tenant,
      timeline,
      acceptors: safekeepers.map(({ address }) => address),
      systemId,
      pgVersion: 15,
      segmentSize: SEGMENT_BYTES,
      timelineStartLsn: startLsn,
      onFenced: (error) => fencedWith = error,
      logger: NULL_LOGGER,
      electTimeoutMs,
    });
  }

  async function flushLsn(): Promise<Lsn> {
    const [row] = await cluster.sql`SELECT pg_current_wal_flush_lsn()::text AS lsn`;
    return parseLsn(row!["lsn"] as string);
  }

  /** Everything that Postgres has written is committed, and all safekeepers have it. */
  async function settled(): Promise<Lsn> {
    const end = await flushLsn();
    await until("every safekeeper has everything", async () => {
      const statuses = await Promise.all(safekeepers.map((safekeeper) => safekeeper.status()));
      return statuses.every(({ commit_lsn }) => parseLsn(commit_lsn) >= end);
    });
    return end;
  }

  before(async () => {
    cluster = await StockCluster.start({
      segmentMiB: SEGMENT_MIB,
      settings: {
        synchronous_standby_names: `'${WAL_PROPOSER_NAME}'`,
        wal_keep_size: "'1GB'",
        autovacuum: "off",
      },
    });
    await cluster.sql`SET synchronous_commit = local`;
    await cluster.sql`CHECKPOINT`;
    const [row] = await cluster.sql`SELECT system_identifier::text AS id FROM pg_control_system()`;
    systemId = BigInt(row!["id"] as string);
    // Nothing writes now: the end of what is flushed is the end of a record.
    startLsn = await flushLsn();
    await cluster.reconnect();
    for (const safekeeper of safekeepers) await safekeeper.start();
  }, OPTIONS);

  after(async () => {
    await proposer?.stop();
    for (const safekeeper of safekeepers) await safekeeper.stop();
    await cluster?.[Symbol.asyncDispose]();
    rmSync(root, { recursive: true });
  });

  test("elect the proposer at the start of the timeline", OPTIONS, async () => {
    proposer = newProposer();
    const election = await proposer.elect();
    assert.deepEqual(election, { term: 1, lastTerm: 0, startLsn });
    await proposer.start(connectToCluster);
  });

  test("make commits durable before they are acknowledged", OPTIONS, async () => {
    await cluster.sql`CREATE TABLE t (n int PRIMARY KEY, filler text)`;
    for (let n = 0; n < 20; n++) {
      await cluster.sql`INSERT INTO t VALUES (${n}, 'x')`;
      const [row] = await cluster.sql`SELECT pg_current_wal_flush_lsn()::text AS lsn`;
      assert.ok(proposer.commitLsn <= parseLsn(row!["lsn"] as string));
    }
    await cluster.sql`INSERT INTO t SELECT n, repeat('y', 500) FROM generate_series(100, 5000) n`;
    const end = await settled();
    assert.ok(end > startLsn + 2 * SEGMENT_BYTES, "it spans segments");
  });

  test("hold byte for byte the WAL that Postgres has", OPTIONS, async () => {
    const end = await settled();
    const first = Math.floor(startLsn / SEGMENT_BYTES);
    const last = Math.floor((end - 1) / SEGMENT_BYTES);
    for (const { paths } of safekeepers) {
      const dir = paths.timeline(tenant, timeline);
      const names = readdirSync(dir).filter((name) => /^[0-9A-F]{24}$/.test(name)).sort();
      assert.equal(names.length, last - first + 1);
      names.forEach((name, i) => {
        const ours = readFileSync(join(dir, name));
        const theirs = readFileSync(join(cluster.dataDir, "pg_wal", name));
        const segment = (first + i) * SEGMENT_BYTES;
        const from = Math.max(0, startLsn - segment);
        const to = Math.min(SEGMENT_BYTES, end - segment);
        assert.ok(ours.subarray(from, to).equals(theirs.subarray(from, to)), `segment ${name}`);
      });
    }
  });

  test("keep files that pg_waldump reads, the first one too", OPTIONS, () => {
    const dir = safekeepers[0].paths.timeline(tenant, timeline);
    const start = `${Math.floor(startLsn / 2 ** 32).toString(16)}/${(startLsn % 2 ** 32).toString(16)}`;
    const done = spawnSync(join(cluster.install.binDir, "pg_waldump"), [
      "--quiet",
      "-p",
      dir,
      "-s",
      start,
      "-n",
      "1000",
    ], {
      encoding: "utf8",
    });
    assert.equal(done.stderr, "");
    assert.equal(done.status, 0);
  });

  test("identify themselves as the system whose WAL they have", OPTIONS, async () => {
    await settled();
    await using client = await PgClient.connect({
      ...safekeepers[1].address,
      user: "zenith",
      replication: true,
      options: timelineOptions(tenant, timeline),
    });
    const system = await identifySystem(client);
    assert.equal(system.systemId, String(systemId));
    assert.ok(system.xlogpos >= startLsn);
  });

  test("go on with one of them down, which catches up from the others", OPTIONS, async () => {
    await safekeepers[0].stop();
    await cluster.sql`INSERT INTO t SELECT n, repeat('z', 1000) FROM generate_series(10000, 40000) n`;
    const during = proposer.acceptors[0].flushLsn;
    await safekeepers[0].start();
    const end = await settled();
    assert.ok(end - during > 20 << 20, "it missed more than the proposer keeps in memory");
  });

  test("freeze commits with two of them down, and resume", OPTIONS, async () => {
    await settled();
    await safekeepers[0].stop();
    await safekeepers[1].stop();
    let isDone = false;
    const insert = cluster.sql`INSERT INTO t VALUES (50000, 'waits')`.then(() => isDone = true);
    const written = await (async () => {
      await until("Postgres has flushed the commit", async () => await flushLsn() > proposer.commitLsn);
      return flushLsn();
    })();
    await until("the third one has it", () => proposer.acceptors[2].flushLsn >= written);
    assert.equal(isDone, false);
    assert.ok(proposer.commitLsn < written);
    await safekeepers[0].start();
    await insert;
    await safekeepers[1].start();
    await settled();
  });

  test("are archived by pg_receivewal", OPTIONS, async () => {
    const dir = join(cluster.directory, "archive");
    makeOwnedDirectory(dir, pgUser());
    const { host, port } = safekeepers[2].address;
    const end = await settled();
    const receiver = spawn(join(cluster.install.binDir, "pg_receivewal"), [
      `--dbname=host=${host} port=${port} user=zenith options='${timelineOptions(tenant, timeline)}'`,
      `--directory=${dir}`,
      `--endpos=${lsnText(end + 1 as Lsn)}`,
      "--no-loop",
      "--no-sync",
    ], { ...asUser(pgUser()), env: postgresEnvironment(), stdio: ["ignore", "pipe", "pipe"] });
    let stderr = "";
    receiver.stderr.on("data", (chunk) => stderr += String(chunk));
    const ended = once(receiver, "exit");
    // It begins with the segment that is current when it connects: then WAL goes on, into the next ones.
    await until("it receives", () => receiver.exitCode !== null || readdirSync(dir).length > 0);
    await cluster.sql`INSERT INTO t SELECT n, repeat('a', 1000) FROM generate_series(60000, 64000) n`;
    const [code] = await ended;
    assert.equal(code, 0, stderr);
    const names = readdirSync(dir).filter((name) => /^[0-9A-F]{24}/.test(name));
    assert.ok(names.length > 0);
    for (const name of names) {
      const theirs = readFileSync(join(cluster.dataDir, "pg_wal", name.slice(0, 24)));
      const segment = parseWalFileName(name.slice(0, 24), SEGMENT_BYTES)!.lsn;
      const ours = readFileSync(join(dir, name)).subarray(0, Math.min(SEGMENT_BYTES, end - segment));
      assert.ok(ours.length > 0 && ours.equals(theirs.subarray(0, ours.length)), name);
    }
  });

  test("feed a stock standby", OPTIONS, async () => {
    const dataDir = join(cluster.directory, "standby");
    const { host, port } = safekeepers[1].address;
    cluster.run("pg_basebackup", [
      `--pgdata=${dataDir}`,
      `--host=${cluster.directory}`,
      "--port=57100",
      "--username=postgres",
      "--wal-method=none",
      "--checkpoint=fast",
      "--no-sync",
      "--no-slot",
    ]);
    const conninfo = `host=${host} port=${port} user=zenith options=''${timelineOptions(tenant, timeline)}''`;
    appendFileSync(
      join(dataDir, "postgresql.conf"),
      `port = 57549\nprimary_conninfo = '${conninfo}'\nsynchronous_standby_names = ''\n`,
    );
    writeFileSync(join(dataDir, "standby.signal"), "");
    chownRecursive(dataDir, pgUser());
    // Without waiting: the safekeeper that it needs runs in this process.
    cluster.run("pg_ctl", ["start", "-W", "-D", dataDir, "-l", join(cluster.directory, "standby.log")]);
    const standby = postgres({
      path: join(cluster.directory, ".s.PGSQL.57549"),
      database: "postgres",
      username: "postgres",
      max: 1,
    });
    try {
      await cluster.sql`INSERT INTO t VALUES (70000, 'for the standby')`;
      await until("the standby has replayed it", async () => {
        const found = standby`SELECT 1 FROM t WHERE n = 70000`;
        // Until it has started it takes no connections.
        return await found.then((rows) => rows.length === 1, () => false);
      });
      const [ours] = await cluster.sql`SELECT count(*)::int AS n, sum(n)::text AS sum FROM t`;
      const [theirs] = await standby`SELECT count(*)::int AS n, sum(n)::text AS sum FROM t`;
      assert.deepEqual({ ...theirs }, { ...ours });
    } finally {
      await standby.end();
      cluster.run("pg_ctl", ["stop", "-w", "-m", "immediate", "-D", dataDir]);
    }
  });

  test("remove WAL that the page server has made durable", OPTIONS, async () => {
    const end = await settled();
    const before = (await safekeepers[1].status()).wal_bytes;
    await using client = await PgClient.connect({
      ...safekeepers[1].address,
      user: "zenith",
      replication: true,
      applicationName: "pageserver",
      options: timelineOptions(tenant, timeline),
    });
    const copy = await client.copyBoth(`START_REPLICATION PHYSICAL ${lsnText(end)} TIMELINE 1`);
    const status = new Uint8Array(34);
    const view = new DataView(status.buffer);
    view.setUint8(0, "r".charCodeAt(0));
    for (const off of [1, 9, 17]) view.setBigUint64(off, BigInt(end));
    copy.send(status);
    await until("all of them have let go of it", async () => {
      const statuses = await Promise.all(safekeepers.map((safekeeper) => safekeeper.status()));
      return statuses.every(({ wal_bytes, remote_consistent_lsn }) =>
        wal_bytes <= 2 * SEGMENT_BYTES && parseLsn(remote_consistent_lsn) === end
      );
    });
    assert.ok(before > 10 * SEGMENT_BYTES);
  });

  test(
    "fence a proposer when another one is elected, which starts where the quorum ends",
    OPTIONS,
    async () => {
      const end = await settled();
      const second = newProposer();
      const election = await second.elect();
      assert.equal(election.term, 2);
      assert.ok(election.startLsn >= end);
      // One that starts again by itself, after a crash, must not take over from whoever was elected meanwhile.
      const again = newProposer(20_000, 1);
      await assert.rejects(
        again.elect(),
        /another compute has taken over .*: its term is 2, this one's was 1/,
      );
      await again.stop();
      await until("the first one is fenced", () => fencedWith !== undefined);
      assert.equal(fencedWith!.kind, "conflict");
      assert.match(fencedWith!.message, /another compute has taken over/);
      await second.stop();
    },
  );

  test("remember everything after all of them were restarted", OPTIONS, async () => {
    const before = await Promise.all(safekeepers.map((safekeeper) => safekeeper.status()));
    for (const safekeeper of safekeepers) await safekeeper.stop();
    for (const safekeeper of safekeepers) await safekeeper.start();
    const after = await Promise.all(safekeepers.map((safekeeper) => safekeeper.status()));
    assert.deepEqual(
      after.map(({ term, flush_lsn }) => [term, flush_lsn]),
      before.map((s) => [s.term, s.flush_lsn]),
    );
  });

  test("give no election without a quorum, and say who is missing", OPTIONS, async () => {
    await safekeepers[0].stop();
    await safekeepers[2].stop();
    await assert.rejects(newProposer(1_500).elect(), {
      kind: "unavailable",
      message: /2 of 3 are needed \(.*ECONNREFUSED/s,
    });
  });

  test("refuse a compute of another system", OPTIONS, async () => {
    const impostor = new WalProposer({
      tenant,
      timeline,
      acceptors: [safekeepers[1].address],
      systemId: systemId + 1n,
      pgVersion: 15,
      segmentSize: SEGMENT_BYTES,
      timelineStartLsn: startLsn,
      onFenced: () => {},
      logger: NULL_LOGGER,
      electTimeoutMs: 1_000,
    });
    await assert.rejects(impostor.elect(), { message: /system identifier/ });
  });
});

function lsnText(lsn: Lsn): string {
  return `${Math.floor(lsn / 2 ** 32).toString(16)}/${(lsn % 2 ** 32).toString(16)}`.toUpperCase();
}
