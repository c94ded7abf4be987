/** A table with a row on each page, in an environment's branch, for benchmarks that read its pages. */
import { parseBranchName, type TenantId, type TimelineId } from "../../../src/common/id.ts";
import type { Compute, ZenithEnv } from "../../harness/zenith_env.ts";
import { type BenchRelation, DEFAULT_TABLESPACE } from "./page_stream.ts";

export interface PagesTable {
  readonly tenant: TenantId;
  readonly timeline: TimelineId;
  readonly relation: BenchRelation;
}

/** Makes it on the tenant's main branch, and waits until the page server has it. */
export async function makePagesTable(
  env: ZenithEnv,
  tenant: TenantId,
  compute: Compute,
  pages: number,
): Promise<PagesTable> {
  await compute.query("CREATE TABLE pages (n int, filler text)");
  await compute.query("ALTER TABLE pages ALTER filler SET STORAGE plain");
  await compute.query(`INSERT INTO pages SELECT n, repeat('x', 7000) FROM generate_series(1, ${pages}) n`);
  const file = String(await compute.value("SELECT pg_relation_filepath('pages')"));
  const [, db, rel] = /^base\/(\d+)\/(\d+)$/.exec(file)!;
  await env.untilArrived("main", tenant);
  await using client = env.pageserver.client();
  const { timeline_id: timeline } = await client.branch(tenant, parseBranchName("main"));
  return { tenant, timeline, relation: { spc: DEFAULT_TABLESPACE, db: Number(db), rel: Number(rel) } };
}
