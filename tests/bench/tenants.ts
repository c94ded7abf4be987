/**
 * One tenant's page requests while another one is at full tilt: eight connections with 64 requests in flight each, and basebackups,
 * from a process of its own. `npm run bench -- tenants [rounds]`
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { parseBranchName, type TenantId } from "../../src/common/id.ts";
import { parseLsn } from "../../src/common/lsn.ts";
import { PgClient } from "../../src/pgwire/client.ts";
import { REQUEST_PAGES } from "../../src/protocol/pagestream.ts";
import { ZenithEnv } from "../harness/zenith_env.ts";
import { compare, DEFAULT_ROUNDS, report, useExecutable } from "./harness.ts";
import type { BenchTimeline } from "./lib/page_server.ts";
import { PageStream } from "./lib/page_stream.ts";
import { type Driver, type RoundTrips, roundTrips } from "./lib/round_trips.ts";

const PAGES = 200;
const REQUESTS = 3_000;

export async function run(args: readonly string[]): Promise<void> {
  useExecutable();
  const rounds = Number(args[0] ?? DEFAULT_ROUNDS);
  await using env = await ZenithEnv.create({ safekeepers: 1 });
  const { host, port } = env.pageserver.address;
  const connect = () => PgClient.connect({ host, port, user: "bench", password: env.token });

  const prepare = async (tenant: TenantId) => {
    const compute = await env.startCompute("main", tenant);
    await compute.query("CREATE TABLE pages (n int, filler text)");
    await compute.query("ALTER TABLE pages ALTER filler SET STORAGE plain");
    await compute.query(`INSERT INTO pages SELECT n, repeat('x', 7000) FROM generate_series(1, ${PAGES}) n`);
    const file = String(await compute.value("SELECT pg_relation_filepath('pages')"));
    const [, db, rel] = /^base\/(\d+)\/(\d+)$/.exec(file)!;
    await env.untilArrived("main", tenant);
    await using client = env.pageserver.client();
    const { timeline_id: timeline } = await client.branch(tenant, parseBranchName("main"));
    return { tenant, timeline, relation: { spc: 1663, db: Number(db), rel: Number(rel) } };
  };
  const quiet = await prepare(env.defaultTenant);
  const busy = await prepare(await env.createTenant());

  await using stream = await PageStream.open(
    { connect },
    { tenant: quiet.tenant, timeline: quiet.timeline } as BenchTimeline,
  );
  const own = { tag: REQUEST_PAGES, lsn: parseLsn("0/0"), fork: 0, count: 1 };
  Object.assign(stream.request, quiet.relation, own);
  const driver: Driver = {
    onReply: () => {},
    send(i) {
      stream.request.blkno = (i * 7) % PAGES;
      stream.send();
    },
  };
  stream.onResponse = () => driver.onReply();
  const measure = () => stream.orFail(roundTrips(driver, REQUESTS, 1));

  const flooded = async (): Promise<RoundTrips> => {
    const relation = JSON.stringify({ ...busy.relation, pages: PAGES });
    const flood = spawn(
      process.execPath,
      [
        join(import.meta.dirname, "lib", "flood.ts"),
        host,
        String(port),
        env.token,
        busy.tenant,
        busy.timeline,
        relation,
      ],
      { stdio: ["ignore", "pipe", "inherit"] },
    );
    const ended = once(flood, "exit");
    await once(flood.stdout, "data");
    try {
      return await measure();
    } finally {
      flood.kill("SIGKILL");
      await ended;
    }
  };
  report("tenants", [
    await compare(
      "getpage beside a flood, p50",
      "µs",
      async () => (await flooded()).p50Us,
      async () => (await measure()).p50Us,
      rounds,
    ),
    await compare(
      "getpage beside a flood, p99",
      "µs",
      async () => (await flooded()).p99Us,
      async () => (await measure()).p99Us,
      rounds,
    ),
  ]);
}
