import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { lastWords } from "../../../../src/compute/postgres/postgres_process.ts";

const PREFIX = "2026-11-29 19:00:00.000 UTC [42] ";

describe("what a Postgres that has ended has said last", () => {
  test("is its message, its detail and its hint", () => {
    const words = lastWords([
      `${PREFIX}LOG:  starting PostgreSQL 15.20`,
      `${PREFIX}FATAL:  could not map anonymous shared memory: Cannot allocate memory`,
      `${PREFIX}DETAIL:  It is a lot.`,
      `${PREFIX}HINT:  This error usually means that`,
      "\tthere is not enough.",
      `${PREFIX}LOG:  database system is shut down`,
    ]);
    assert.deepEqual(words, {
      text: "could not map anonymous shared memory: Cannot allocate memory (It is a lot.)",
      hint: "This error usually means that there is not enough.",
    });
  });

  test("is of the startup process its own words, not that it has exited", () => {
    const words = lastWords([
      `${PREFIX}FATAL:  maximum number of prepared transactions reached`,
      `${PREFIX}HINT:  Increase max_prepared_transactions (currently 0).`,
      `${PREFIX}LOG:  startup process (PID 43) exited with exit code 1`,
      `${PREFIX}LOG:  aborting startup due to startup process failure`,
    ]);
    assert.deepEqual(words, {
      text: "maximum number of prepared transactions reached",
      hint: "Increase max_prepared_transactions (currently 0).",
    });
  });

  test("is of another child that has crashed that it has", () => {
    const words = lastWords([
      `${PREFIX}LOG:  server process (PID 44) was terminated by signal 9: Killed`,
      `${PREFIX}FATAL:  the database system is in recovery mode`,
      `${PREFIX}HINT:  of somebody else`,
    ]);
    assert.deepEqual(words, { text: "server process (PID 44) was terminated by signal 9: Killed" });
  });
});
