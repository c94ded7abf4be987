/** The executable that has PostgreSQL inside, where no other is: a host with nothing but that one file. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { chmodSync, mkdtempSync, readdirSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import type { Finding } from "../../src/control/survey/checkup.ts";
import { Connection } from "../harness/connection.ts";
import { freePort } from "../harness/ports.ts";

const ROOT = join(import.meta.dirname, "..", "..");
const ZENITH = join(ROOT, "dist", "zenith-with-postgres");

/** Runs its arguments where the installed PostgreSQL can't be seen. */
const WITHOUT_INSTALLED =
  'if [ -d /usr/lib/postgresql ]; then mount -t tmpfs none /usr/lib/postgresql || exit 1; fi; exec "$@"';

const mayHide = process.getuid?.() === 0 && spawnSync("unshare", ["--mount", "true"]).status === 0;

let dir: string;

function zenith(...args: string[]): string {
  const hidden = ["--mount", "sh", "-c", WITHOUT_INSTALLED, "sh", ZENITH, ...args];
  const { status, stdout, stderr } = spawnSync("unshare", hidden, {
    cwd: dir,
    encoding: "utf8",
    env: {
      PATH: process.env["PATH"],
      ZENITH_REPO_DIR: join(dir, "repo"),
      XDG_CACHE_HOME: join(dir, "cache"),
    },
  });
  assert.equal(status, 0, `zenith ${args.join(" ")}: exit code ${status}\n${stdout}${stderr}`);
  return stdout;
}

describe("the executable with PostgreSQL inside", {
  skip: mayHide ? false : "only root can hide the installed PostgreSQL, in a mount namespace of its own",
}, () => {
  before(() => {
    dir = mkdtempSync(join(tmpdir(), "zenith-built-in-"));
    chmodSync(dir, 0o755);
    const built = spawnSync("npm", ["run", "--silent", "build", "--", "--with-postgres"], {
      cwd: ROOT,
      encoding: "utf8",
    });
    assert.equal(built.status, 0, built.stderr);
  });
  after(() => {
    try {
      zenith("stop", "-m", "immediate");
    } finally {
      rmSync(dir, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
    }
  });

  test("unpacks it once, and is a whole system with it", async () => {
    assert.match(
      zenith("init", "--listen", `127.0.0.1:${await freePort()}`),
      /PostgreSQL 18\.\d+ from .*cache/,
    );
    const [unpacked, ...more] = readdirSync(join(dir, "cache", "zenith"));
    assert.deepEqual(more, [], "nothing is left of unpacking");
    const postgres = join(dir, "cache", "zenith", unpacked!, "bin", "postgres");
    const { ino } = statSync(postgres);
    const found: Finding[] = JSON.parse(zenith("doctor", "--json"));
    assert.ok(found.some(({ found }) => found.includes(unpacked!)), JSON.stringify(found));

    zenith("start");
    const [parent, branch] = [await freePort(), await freePort()];
    zenith("pg", "create", "main", "--port", String(parent));
    zenith("pg", "start", "main");
    await using main = await Connection.openUri(zenith("uri", "main"));
    await main.query("CREATE TABLE t AS SELECT generate_series(1, 1000) n");
    const lsn = await main.value("SELECT pg_current_wal_insert_lsn()");
    await main.query("DROP TABLE t");
    zenith("branch", "before", `main@${lsn}`);
    zenith("pg", "create", "before", "--port", String(branch));
    zenith("pg", "start", "before");
    await using before = await Connection.openUri(zenith("uri", "before"));
    assert.equal(await before.value("SELECT count(*)::int FROM t"), 1000);
    assert.equal(statSync(postgres).ino, ino, "it was not unpacked again");
  });
});
