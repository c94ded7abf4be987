import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, test } from "node:test";
import { ComputePaths } from "../../../../src/common/paths.ts";
import {
  chooseLocations,
  type Cover,
  inNamespace,
  linkTablespaces,
  removeLeftTablespaces,
  takeTablespaceMap,
} from "../../../../src/compute/postgres/tablespaces.ts";
import { asUser, type PgUser, pgUser } from "../../../../src/pg_install/pg_user.ts";
import { NULL_LOGGER } from "../../../../src/process/log.ts";
import { encodeTablespaceMap, TABLESPACE_MAP_FILE } from "../../../../src/protocol/tablespace_map.ts";

/** TABLESPACE_VERSION_DIRECTORY of 15. */
const VERSION = "PG_15_202209061";

let dir: string;
let paths: ComputePaths;
/** undefined without root. */
let user: PgUser | undefined;

beforeEach(() => {
  dir = realpathSync(mkdtempSync(join(tmpdir(), "zenith-test-")));
  chmodSync(dir, 0o755);
  user = pgUser();
  paths = new ComputePaths(join(dir, "compute"));
  mkdirSync(join(paths.pgdata, "pg_tblspc"), { recursive: true });
  writeFileSync(join(paths.pgdata, "PG_VERSION"), "15\n");
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

/** A directory of the user that Postgres runs as, with a tablespace in it. */
function location(name: string): string {
  const path = join(dir, name);
  mkdirSync(join(path, VERSION), { recursive: true });
  writeFileSync(join(path, VERSION, "data"), name);
  if (user !== undefined) {
    for (const each of [path, join(path, VERSION)]) chownSync(each, user.uid, user.gid);
  }
  return path;
}

const link = (oid: number, target: string) =>
  symlinkSync(target, join(paths.pgdata, "pg_tblspc", String(oid)));

describe("what tablespaces leave at their locations", () => {
  test("is removed, but for what was covered and what is another's", () => {
    const [made, covered, within, other] = ["made", "covered", "covered/within", "other"].map(location);
    mkdirSync(join(made!, "PG_16_202307071"));
    link(16384, made!);
    link(16385, covered!);
    symlinkSync(covered!, join(dir, "alias"));
    link(16386, join(dir, "alias", "within"));
    link(16387, join(dir, "is not there"));
    mkdirSync(join(paths.pgdata, "pg_tblspc", "16388"));
    writeFileSync(paths.coveredLocations, JSON.stringify([covered]));
    removeLeftTablespaces(paths, user, NULL_LOGGER);
    assert.deepEqual(readdirSync(made!), ["PG_16_202307071"]);
    for (const path of [covered!, within!, other!]) assert.ok(existsSync(join(path, VERSION, "data")), path);
    // What was covered is not known any more: nobody may look at the links again.
    assert.equal(existsSync(paths.coveredLocations), false);
    assert.deepEqual(readdirSync(join(paths.pgdata, "pg_tblspc")), ["16388"]);
    removeLeftTablespaces(paths, user, NULL_LOGGER);
    assert.ok(existsSync(join(covered!, VERSION, "data")));
  });

  test("stays when it is not known what was covered", () => {
    const made = location("made");
    link(16384, made);
    writeFileSync(paths.coveredLocations, '["/a');
    removeLeftTablespaces(paths, user, NULL_LOGGER);
    assert.ok(existsSync(join(made, VERSION, "data")));
  });
});

describe("a basebackup's list of tablespaces", () => {
  test("is read once", () => {
    assert.deepEqual(takeTablespaceMap(paths.pgdata), new Map());
    writeFileSync(join(paths.pgdata, TABLESPACE_MAP_FILE), encodeTablespaceMap(new Map([[16384, "/a b"]])));
    assert.deepEqual(takeTablespaceMap(paths.pgdata), new Map([[16384, "/a b"]]));
    assert.deepEqual(takeTablespaceMap(paths.pgdata), new Map());
  });
});

const isRoot = process.getuid?.() === 0;
const mayMount = isRoot && spawnSync("unshare", ["--mount", "true"]).status === 0;

describe("the locations of tablespaces", { skip: !mayMount }, () => {
  const choose = (...given: string[]) =>
    chooseLocations(new Map(given.map((path, i) => [16384 + i, path])), user, [paths.dir, "/usr/lib"]);

  test("are covered if they belong to Postgres's user, and to nobody else's business", () => {
    const [a, b] = ["a", "b"].map(location);
    symlinkSync(a!, join(dir, "alias"));
    assert.deepEqual(
      choose(join(dir, "alias"), b!),
      new Map([[16384, { given: join(dir, "alias"), real: a! }], [16385, { given: b!, real: b! }]]),
    );
    assert.deepEqual(choose(), new Map());
    const within = location("a/within");
    mkdirSync(join(paths.dir, "inside"));
    chownSync(join(paths.dir, "inside"), user!.uid, user!.gid);
    for (
      const [refused, why] of [
        [["/etc"], /no directory of/],
        [[""], /no directory of/],
        [["relative"], /no directory of/],
        [[join(dir, "is not there")], /no directory of/],
        [[join(a!, VERSION, "data")], /no directory of/],
        [[a!, within], /within/],
        [[a!, join(dir, "alias")], /within/],
        [[join(paths.dir, "inside")], /needs/],
      ] as const
    ) assert.match(String(choose(b!, ...refused)), why, refused.join());
    chownSync(dir, user!.uid, user!.gid);
    assert.match(String(choose(dir)), /needs/, "it holds the compute");
  });

  function covers(): { real: string; covers: Cover[] } {
    const real = location("space");
    const inside = join(paths.pgdata, "pg_tblspc", "16384");
    mkdirSync(inside);
    writeFileSync(join(inside, "ours"), "ours");
    const locations = choose(real);
    assert.ok(typeof locations !== "string", String(locations));
    return { real, covers: linkTablespaces(paths, locations) };
  }

  function run(list: readonly Cover[], file: string, ...args: string[]) {
    const command = inNamespace(list, user, { file, args });
    return spawnSync(command.file, command.args, { ...asUser(command.user), encoding: "utf8" });
  }

  test("show a program what the compute has, and others what is there", () => {
    const { real, covers: list } = covers();
    const through = join(paths.pgdata, "pg_tblspc", "16384", "ours");
    assert.equal(run(list, "cat", through).stdout, "ours");
    assert.equal(run(list, "id", "-u").stdout, `${user!.uid}\n`);
    assert.equal(existsSync(through), false);
    assert.deepEqual(readdirSync(real), [VERSION]);
    assert.deepEqual(JSON.parse(readFileSync(paths.coveredLocations, "utf8")), [real]);
    // What a program gets does not depend on what it is called.
    assert.deepEqual(run(list, "printf", "%s,", "--", "a b", "$1").stdout, "--,a b,$1,");
  });

  test("that are changed meanwhile are not covered", () => {
    const { real, covers: list } = covers();
    renameSync(real, `${real}.away`);
    for (const target of ["/etc", `${real}.away`]) {
      symlinkSync(target, real);
      const ended = run(list, "cat", "/etc/hostname");
      assert.equal(ended.status, 1);
      assert.match(ended.stderr, /the location .*space of a tablespace was changed/);
      rmSync(real);
    }
    mkdirSync(real);
    assert.equal(run(list, "true").status, 1, "it is root's");
    chownSync(real, user!.uid, user!.gid);
    assert.equal(run(list, "true").status, 0);
  });
});
