/** Branches with a Postgres on them, and lines in a Postgres' configuration. */
import { appendFileSync } from "node:fs";
import { join } from "node:path";
import type { Compute, ZenithEnv } from "./zenith_env.ts";

/** Adds lines to the compute's postgresql.conf; they hold from its next start on. */
export function addSettings(compute: Compute, ...lines: readonly string[]): void {
  appendFileSync(join(compute.paths.pgdata, "postgresql.conf"), lines.map((line) => `${line}\n`).join(""));
}

/** Adds lines to the compute's compute.conf: to what is its own, and not the branch's. */
export function addOwnSettings(compute: Compute, ...lines: readonly string[]): void {
  appendFileSync(compute.paths.config, lines.map((line) => `${line}\n`).join(""));
}

/** Makes branch `name` of `parent`'s branch as it was at `lsn`, and starts a Postgres on it. */
export async function branchAt(
  env: ZenithEnv,
  parent: Compute,
  name: string,
  lsn: string,
  settings: readonly string[] = [],
): Promise<Compute> {
  await env.branch(name, `${parent.branch}@${lsn}`, parent.tenant);
  const compute = await env.createCompute(name, parent.tenant);
  addSettings(compute, ...settings);
  await compute.start();
  return compute;
}

/** The same, as `parent` is now. */
export async function branchHere(
  env: ZenithEnv,
  parent: Compute,
  name: string,
  settings: readonly string[] = [],
): Promise<Compute> {
  return await branchAt(env, parent, name, await parent.lsn(), settings);
}

/**
 * An LSN behind everything that has happened so far, and acknowledged: the branch made of it has all of that, whatever becomes of the
 * compute. `Compute.lsn` may be ahead of what was flushed.
 */
export async function durableLsn(pg: Compute): Promise<string> {
  await using session = await pg.connect();
  await session.query("SELECT pg_logical_emit_message(true, 'zenith', 'here')");
  return String(await session.value("SELECT pg_current_wal_flush_lsn()"));
}
