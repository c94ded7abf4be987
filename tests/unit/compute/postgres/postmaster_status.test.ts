/** What a postmaster that starts says of itself, when there is no file yet, another's, and its own. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { PostmasterStatus } from "../../../../src/compute/postgres/postmaster_status.ts";

const PID = 4711;

function lines(pid: number, status: string): string {
  return [pid, "/pgdata", 1796071412, 5432, "/run", "127.0.0.1", " 123 4", status.padEnd(8), ""].join("\n");
}

test("a postmaster is ready when its own file says so, whatever was there before", () => {
  const pgdata = mkdtempSync(join(tmpdir(), "zenith-postmaster-status-"));
  const file = join(pgdata, "postmaster.pid");
  try {
    using status = new PostmasterStatus(pgdata);
    assert.ok(!status.isReady(PID));
    writeFileSync(file, lines(PID + 1, "ready"));
    assert.ok(!status.isReady(PID));
    // Postgres removes a dead postmaster's file and makes one of its own.
    rmSync(file);
    assert.ok(!status.isReady(PID));
    writeFileSync(file, lines(PID, "starting"), { flag: "wx" });
    assert.ok(!status.isReady(PID));
    writeFileSync(file, lines(PID, "ready"), { flag: "r+" });
    assert.ok(status.isReady(PID));
  } finally {
    rmSync(pgdata, { recursive: true });
  }
});
