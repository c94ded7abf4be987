import assert from "node:assert/strict";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { Logger } from "../../../src/process/log.ts";
import { PgError } from "../../../src/pgwire/sqlstate.ts";
import { Poolers } from "../../../src/serve/fleet/poolers.ts";

const log: Logger = { info() {}, warn() {}, error() {}, debug() {} } as unknown as Logger;

test("poolers say what to install where PgBouncer is missing", () => {
  const directory = join(tmpdir(), "zenith-no-poolers");
  const poolers = new Poolers({ directory, log, poolSize: 1, maxClients: 1, find: () => undefined });
  assert.throws(() => poolers.assertInstalled(), (error) => {
    assert.ok(error instanceof PgError);
    assert.equal(error.sqlstate, "0A000");
    assert.match(error.hint ?? "", /apt-get install pgbouncer/);
    return true;
  });
});

test("poolers remove what earlier ones have left, and end nobody who has one's number by chance", () => {
  const directory = mkdtempSync(join(tmpdir(), "zenith-poolers-"));
  try {
    mkdirSync(join(directory, "left"));
    writeFileSync(join(directory, "left", "pgbouncer.pid"), `${process.pid}\n`);
    new Poolers({ directory, log, poolSize: 1, maxClients: 1 });
    assert.ok(!existsSync(directory));
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});
