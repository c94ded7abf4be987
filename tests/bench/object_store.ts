/**
 * An environment with an object store: how long a fresh host takes to its first query, what uploads cost, what a disk smaller
 * than the data costs, how much is at risk, and how many requests all of it makes.
 *
 * `npm run bench -- object_store [first|ingest|cache|risk|cost]…`, all of them when none is named. `first` needs Ceph.
 */
import { appendFileSync, chmodSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { AwsClient } from "aws4fetch";
import { parseStoreKey } from "../../src/pageserver/remote/keys.ts";
import type { ObjectStoreStatus } from "../../src/control/page_server_client.ts";
import { Ceph } from "../harness/ceph.ts";
import { pgbench } from "../harness/pgbench.ts";
import { TcpProxy } from "../harness/tcp_proxy.ts";
import { type Compute, until, ZenithEnv } from "../harness/zenith_env.ts";
import { percentile, summarize, useExecutable } from "./harness.ts";

const MIB = 1 << 20;
/** Added to every request of a fresh host. */
const REQUEST_DELAY_MS = 20;
const FIRST_SIZES_MIB = [16, 1024];
const FIRST_ROUNDS = 3;
const STORE_BYTES = 4 * 1024 * MIB;
const INGEST_MIB = 256;
const INGEST_ROUNDS = 2;
const CACHE_SCALE = 45;
const CACHE_SECONDS = 40;
const RISK_SECONDS = 30;
const IDLE_SECONDS = 30;
const TRICKLE_SECONDS = 30;

const root = mkdtempSync(join(tmpdir(), "zenith-bench-store-"));
chmodSync(root, 0o755);

function directory(name: string): string {
  return pathToFileURL(join(root, name)).href;
}

async function storeOf(env: ZenithEnv): Promise<ObjectStoreStatus> {
  await using client = env.pageserver.client();
  return (await client.objectStoreStatus())!;
}

async function untilUploaded(env: ZenithEnv): Promise<void> {
  await until("all is in the store", async () => {
    const [tenant] = (await storeOf(env)).tenants;
    return tenant !== undefined && tenant.pending_since === null;
  }, 300_000);
}

/** Rows of some 1 kB that don't compress. */
async function fill(pg: Compute, mib: number): Promise<void> {
  await pg.query("CREATE TABLE t (n int PRIMARY KEY, filler bytea)");
  await pg.query("ALTER TABLE t ALTER filler SET STORAGE PLAIN");
  const perPart = 16;
  for (let part = 0; part < mib / perPart; part++) {
    const rows = perPart * 1024;
    await pg.query(`INSERT INTO t SELECT n, (SELECT string_agg(sha512((n * 16 + i)::text::bytea), '')
      FROM generate_series(1, 15) i) FROM generate_series(${part * rows}, ${(part + 1) * rows - 1}) n`);
  }
}

async function first(): Promise<void> {
  await using ceph = await Ceph.start(STORE_BYTES);
  process.env["AWS_ACCESS_KEY_ID"] = ceph.user.accessKeyId;
  process.env["AWS_SECRET_ACCESS_KEY"] = ceph.user.secretAccessKey;
  const client = new AwsClient({ ...ceph.user, service: "s3", region: "default" });
  await client.fetch(`${ceph.endpoint}/bench`, { method: "PUT" });
  await using proxy = await TcpProxy.start({ host: "127.0.0.1", port: Number(new URL(ceph.endpoint).port) });
  // Half of it on the way there, half on the way back.
  proxy.delay(REQUEST_DELAY_MS / 2);
  for (const mib of FIRST_SIZES_MIB) {
    const url = (endpoint: string) => `s3://bench/first${mib}?endpoint=${endpoint}`;
    {
      await using lost = await ZenithEnv.create({
        init: ["--object-store", url(ceph.endpoint)],
        safekeepers: 1,
      });
      const pg = await lost.startCompute();
      await fill(pg, mib);
      await pg.stop();
      await untilUploaded(lost);
      await lost.zenith("stop");
    }
    const rounds: { init: number; start: number; query: number; total: number; requests: number }[] = [];
    for (let round = 0; round < FIRST_ROUNDS; round++) {
      const from = ["--from", url(`http://127.0.0.1:${proxy.address.port}`)];
      const began = performance.now();
      await using found = await ZenithEnv.create({ init: from, safekeepers: 1, start: false });
      const initMs = performance.now() - began;
      await found.zenith("start");
      const pg = await found.createCompute();
      await pg.start();
      const startedMs = performance.now() - began;
      const row = Math.floor(mib * 1024 / 3);
      await pg.value(`SELECT length(filler) FROM t WHERE n = ${row}`);
      const total = performance.now() - began;
      const { requests } = await storeOf(found);
      rounds.push({ init: initMs, start: startedMs - initMs, query: total - startedMs, total, requests });
    }
    const of = (key: keyof (typeof rounds)[number]) => summarize(rounds.map((round) => round[key])).median;
    console.log(
      `first: ${mib} MiB: ${ms(of("total"))} to the first row (init --from ${
        ms(of("init"))
      }, start and pg start ${ms(of("start"))}, query ${ms(of("query"))}), ${
        of("requests")
      } requests by then since start`,
    );
  }
}

async function ingest(): Promise<void> {
  const rates: Record<string, number[]> = { without: [], with: [] };
  for (let round = 0; round < INGEST_ROUNDS; round++) {
    for (const way of ["without", "with"]) {
      const init = way === "with" ? ["--object-store", directory(`ingest${round}`)] : [];
      await using env = await ZenithEnv.create({ init, safekeepers: 1 });
      const pg = await env.startCompute();
      const from = performance.now();
      await fill(pg, INGEST_MIB);
      await env.untilArrived();
      rates[way]!.push(INGEST_MIB / ((performance.now() - from) / 1000));
    }
  }
  const [on, off] = [summarize(rates["with"]!), summarize(rates["without"]!)];
  console.log(
    `ingest: ${on.median.toFixed(1)} MiB/s with uploads (${on.min.toFixed(1)} to ${on.max.toFixed(1)}), ${
      off.median.toFixed(1)
    } without (${off.min.toFixed(1)} to ${off.max.toFixed(1)}): ${(on.median / off.median).toFixed(2)}`,
  );
}

async function cache(): Promise<void> {
  const tps: Record<string, string[]> = {};
  for (const way of ["all here", "a tenth"]) {
    await using env = await ZenithEnv.create({
      init: ["--object-store", directory(`cache ${way}`.replaceAll(" ", "-"))],
      safekeepers: 1,
    });
    let pg = await env.startCompute();
    await pg.query("CREATE DATABASE bench");
    await pgbench(pg, "bench", "-i", "-q", "-s", String(CACHE_SCALE));
    await pg.stop();
    await untilUploaded(env);
    await env.zenith("stop");
    if (way === "a tenth") {
      appendFileSync(join(env.repoDir, "pageserver.toml"), `layer_disk_bytes = ${64 * MIB}\n`);
    }
    await env.zenith("start");
    if (way === "a tenth") {
      await until("layers are within their limit", async () => {
        const { disk } = await storeOf(env);
        return disk !== undefined && disk.fetched_bytes + disk.uploaded_bytes <= 64 * MIB;
      });
    }
    pg = await env.startCompute();
    const found: string[] = [];
    for (let round = 0; round < 3; round++) {
      const out = await pgbench(pg, "bench", "-n", "-c", "4", "-T", String(CACHE_SECONDS / 2));
      found.push(/tps = ([\d.]+)/.exec(out)![1]!);
    }
    const size = await pg.value("SELECT pg_size_pretty(sum(pg_database_size(oid))) FROM pg_database");
    const { requests, received_bytes } = await storeOf(env);
    tps[way] = found;
    console.log(
      `cache: ${way}: ${found.join(", ")} tps of TPC-B one after the other, ${size}, ${requests} requests, ${
        (received_bytes / MIB).toFixed(0)
      } MiB received`,
    );
  }
}

/** Up to where a store in a directory has WAL. */
function storedEnd(path: string): number {
  let end = 0;
  for (const name of readdirSync(path, { recursive: true, encoding: "utf8" })) {
    const object = parseStoreKey(name)?.object;
    if (object?.kind === "wal") end = Math.max(end, object.name.endLsn);
  }
  return end;
}

async function risk(): Promise<void> {
  await using env = await ZenithEnv.create({ init: ["--object-store", directory("risk")], safekeepers: 1 });
  const pg = await env.startCompute();
  await pg.query("CREATE DATABASE bench");
  await pgbench(pg, "bench", "-i", "-q", "-s", "5");
  await untilUploaded(env);
  const before = await storeOf(env);
  const walBefore = await pg.value("SELECT pg_current_wal_lsn() - '0/0'");
  const load = pgbench(pg, "bench", "-n", "-c", "4", "-T", String(RISK_SECONDS));
  let running = true;
  void load.finally(() => (running = false));
  // A commit is at risk from its acknowledgement until the store has it.
  const waiting: { lsn: number; atMs: number }[] = [];
  const delays: number[] = [];
  while (running || waiting.length > 0) {
    const [status] = await env.safekeepers[0]!.status();
    const now = performance.now();
    const stored = storedEnd(join(root, "risk"));
    while (waiting.length > 0 && waiting[0]!.lsn <= stored) {
      delays.push(now - waiting.shift()!.atMs);
    }
    const last = waiting.at(-1)?.lsn ?? 0;
    if (running && status!.commit_lsn > last) waiting.push({ lsn: status!.commit_lsn, atMs: now });
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  const out = await load;
  delays.sort((a, b) => a - b);
  const at = (p: number) => ms(percentile(delays, p));
  console.log(
    `risk: ${/tps = [\d.]+/.exec(out)![0]}; the store has a commit after ${at(0.5)} (median), ${
      at(0.99)
    } (p99), ${ms(delays.at(-1)!)} (longest), ${delays.length} samples`,
  );
  await untilUploaded(env);
  const wal = (Number(await pg.value("SELECT pg_current_wal_lsn() - '0/0'")) - Number(walBefore)) / 2 ** 30;
  perGib(`cost: TPC-B of ${RISK_SECONDS} s`, before, await storeOf(env), wal);
}

function perGib(what: string, before: ObjectStoreStatus, after: ObjectStoreStatus, gib: number): void {
  const requests = after.requests - before.requests;
  const sent = (after.sent_bytes - before.sent_bytes) / 2 ** 30;
  console.log(
    `${what}: ${requests} requests and ${(sent * 1024).toFixed(0)} MiB for ${
      (gib * 1024).toFixed(0)
    } MiB of WAL: ${Math.round(requests / gib)} requests and ${(sent / gib).toFixed(2)} GiB per GiB`,
  );
}

async function cost(): Promise<void> {
  await using env = await ZenithEnv.create({ init: ["--object-store", directory("cost")], safekeepers: 1 });
  const pg = await env.startCompute();
  await untilUploaded(env);
  const before = await storeOf(env);
  const start = Number(await pg.value("SELECT pg_current_wal_lsn() - '0/0'"));
  await fill(pg, INGEST_MIB);
  const end = Number(await pg.value("SELECT pg_current_wal_lsn() - '0/0'"));
  await env.untilArrived();
  await untilUploaded(env);
  perGib("cost: bulk load", before, await storeOf(env), (end - start) / 2 ** 30);
  await pg.query("CREATE TABLE ticks (n int)");
  for (const branches of [1, 1_000]) {
    await using client = env.pageserver.client();
    const there = (await client.branchList(env.defaultTenant)).length;
    for (let i = there; i < branches; i++) {
      await client.branchCreate(env.defaultTenant, `b${i}` as never, "main");
    }
    await untilUploaded(env);
    // What Postgres writes by itself: a checkpoint, running transactions.
    await new Promise((resolve) => setTimeout(resolve, 40_000));
    await untilUploaded(env);
    const idle = await storeOf(env);
    await new Promise((resolve) => setTimeout(resolve, IDLE_SECONDS * 1000));
    const then = await storeOf(env);
    console.log(
      `cost: ${branches} branches, nothing is written for ${IDLE_SECONDS} s: ${
        then.requests - idle.requests
      } requests`,
    );
    for (let second = 0; second < TRICKLE_SECONDS; second++) {
      await pg.query(`INSERT INTO ticks VALUES (${second})`);
      await new Promise((resolve) => setTimeout(resolve, 1000));
    }
    const trickle = await storeOf(env);
    const requests = trickle.requests - then.requests;
    const bytes = trickle.sent_bytes - then.sent_bytes;
    console.log(
      `cost: ${branches} branches, one commit a second for ${TRICKLE_SECONDS} s: ${requests} requests, ${
        (bytes / 1024).toFixed(0)
      } KiB: ${(requests / TRICKLE_SECONDS).toFixed(2)} per second`,
    );
  }
}

function ms(value: number): string {
  return `${(value / 1000).toFixed(2)} s`;
}

const PARTS = { first, ingest, cache, risk, cost };

export async function run(args: readonly string[]): Promise<void> {
  useExecutable();
  try {
    for (const [name, part] of Object.entries(PARTS)) {
      if (args.length === 0 || args.includes(name)) await part();
    }
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
}
