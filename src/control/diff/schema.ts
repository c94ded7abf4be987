/** Compares the schemas of two sides, as `pg_dump -s` writes them. */
import { spawn } from "node:child_process";
import { errorMessage, ZenithError } from "../../common/errors.ts";
import { unifiedDiff } from "../../common/line_diff.ts";
import { connectionEnvironment } from "../../compute/postgres/postgres_conf.ts";
import { withPassword } from "../../compute/postgres/role_passwords.ts";
import { clientEnvironment } from "../../pg_install/client_environment.ts";
import type { ComputeInfo } from "../computes.ts";

/** A side's Postgres, and its point as the user named it. */
export interface DumpedSide {
  readonly label: string;
  readonly compute: ComputeInfo;
}

/**
 * Returns the lines of a unified diff; none when the schemas are the same.
 *
 * @throws {ZenithError}
 */
export async function schemaDiff(
  pgDump: string,
  sides: readonly [DumpedSide, DumpedSide],
  database: string,
): Promise<string[]> {
  const [before, after] = await Promise.all(sides.map((side) => schemaOf(pgDump, side, database)));
  const diff = unifiedDiff(before, after);
  return diff.length === 0 ? [] : [`--- ${sides[0].label}`, `+++ ${sides[1].label}`, ...diff];
}

async function schemaOf(pgDump: string, { label, compute }: DumpedSide, database: string): Promise<string[]> {
  const session = withPassword(compute.paths, { database });
  const env = clientEnvironment(connectionEnvironment(compute.address, session));
  const child = spawn(pgDump, ["-s"], { env, stdio: ["ignore", "pipe", "pipe"] });
  let text = "";
  let complaints = "";
  child.stdout.setEncoding("utf8").on("data", (part: string) => text += part);
  child.stderr.setEncoding("utf8").on("data", (part: string) => complaints += part);
  const code = await new Promise<number | null>((resolve, reject) => {
    child.on("error", (error) =>
      reject(
        new ZenithError("io", `could not run ${pgDump}: ${errorMessage(error)}`, { cause: error }),
      ));
    child.on("close", resolve);
  });
  if (code !== 0) throw new ZenithError("unavailable", `pg_dump of ${label}: ${complaints.trim()}`);
  // Newer versions of pg_dump write a random key on these lines.
  return text.split("\n").filter((line) => !/^\\(un)?restrict /.test(line));
}
