/**
 * One tenant's page requests while another one is at full tilt: eight connections with 64 requests in flight each, and basebackups,
 * from a process of its own. `npm run bench -- tenants [rounds]`
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import type { TenantId } from "../../src/common/id.ts";
import { INVALID_LSN } from "../../src/common/lsn.ts";
import { PgClient } from "../../src/pgwire/client.ts";
import { ZenithEnv } from "../harness/zenith_env.ts";
import { compare, DEFAULT_ROUNDS, report, useExecutable } from "./harness.ts";
import { PageStream } from "./lib/page_stream.ts";
import { makePagesTable } from "./lib/pages_table.ts";
import { type RoundTrips, roundTrips } from "./lib/round_trips.ts";

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
    return await makePagesTable(env, tenant, compute, PAGES);
  };
  const quiet = await prepare(env.defaultTenant);
  const busy = await prepare(await env.createTenant());

  await using stream = await PageStream.open({ connect }, quiet);
  const pages = stream.reader(quiet.relation, PAGES, INVALID_LSN);
  const measure = () => stream.orFail(roundTrips(pages, REQUESTS, 1));

  const flooded = async (): Promise<RoundTrips> => {
    const relation = JSON.stringify({ ...busy.relation, pages: PAGES });
    const flood = spawn(
      // In earnest its clients are on other machines: here they get the time that nobody else wants.
      "chrt",
      [
        "--idle",
        "0",
        process.execPath,
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
