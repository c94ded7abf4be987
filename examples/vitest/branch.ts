/** Gives each test file a branch of main, with a Postgres of its own, and removes it afterwards. */
import { execFileSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import { afterAll } from "vitest";

const branch = `test-${randomUUID()}`;
// If this process is killed, the branch goes by itself once its Postgres is stopped.
const made = execFileSync("zenith", ["branch", "create", branch, "--expires", "1h", "--start", "--json"]);
process.env.DATABASE_URL = JSON.parse(String(made)).uri;

afterAll(() => {
  execFileSync("zenith", ["branch", "delete", branch, "--stop"]);
});
