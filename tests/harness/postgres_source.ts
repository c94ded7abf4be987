/** PostgreSQL's source, for its test suites. */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync } from "node:fs";
import { homedir } from "node:os";
import { join, resolve } from "node:path";
import { ZenithError } from "../../src/common/errors.ts";
import { testPostgres } from "./postgres_major.ts";

/**
 * The minor whose source is fetched when none is named: with another one's server some tests differ
 * in their output.
 */
const VERSION = "15.18";

/**
 * The source tree: `given`, else one fetched before, else one that Debian's archive has, unpacked under
 * `$XDG_CACHE_HOME` or `~/.cache`.
 *
 * @throws {ZenithError} when there is none and it can't be fetched, or the server that was found is another minor's
 */
export function postgresSource(given?: string): string {
  const { version, distribDir } = testPostgres();
  if (given === undefined && version !== VERSION) {
    throw new ZenithError(
      "conflict",
      `PostgreSQL ${version} from ${distribDir} has tests of its own: these are ${VERSION}'s`,
      { hint: `install PostgreSQL ${VERSION}, or name a source tree of ${version} with --pg-source` },
    );
  }
  if (given !== undefined) {
    if (existsSync(join(given, "src/test/regress/parallel_schedule"))) return resolve(given);
    throw new ZenithError("invalid_argument", `${given} is not a PostgreSQL source tree`);
  }
  const cache = join(process.env["XDG_CACHE_HOME"] || join(homedir(), ".cache"), "zenith");
  const tree = join(cache, `postgresql-${VERSION}`);
  if (!existsSync(join(tree, "src/test/regress/parallel_schedule"))) fetchSource(cache);
  return tree;
}

function fetchSource(dir: string): void {
  mkdirSync(dir, { recursive: true });
  run("apt-get", ["source", "--download-only", `postgresql-15=${VERSION}-0+deb12u1`], dir);
  const archive = readdirSync(dir).find((name) => name.startsWith(`postgresql-15_${VERSION}.orig.tar`));
  if (archive === undefined) throw new ZenithError("not_found", `apt-get source left no archive in ${dir}`);
  run("tar", ["xf", archive], dir);
}

function run(program: string, args: readonly string[], cwd: string): void {
  const result = spawnSync(program, args, { cwd, encoding: "utf8" });
  if (result.status !== 0) {
    throw new ZenithError("io", `${program} ${args.join(" ")} failed: ${result.error ?? result.stderr}`, {
      hint: "enable deb-src in apt's sources, or name a PostgreSQL source tree with --pg-source",
    });
  }
}
