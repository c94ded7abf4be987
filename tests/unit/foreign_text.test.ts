/**
 * Whoever can send a megabyte of text must not stop a server with it. Nothing here looks at a clock: with a parser that starts anew at every
 * character, one of these texts takes hours.
 */
import { describe, test } from "node:test";
import assert from "node:assert/strict";
import { parseDuration } from "../../src/common/duration.ts";
import { parseHostPort } from "../../src/common/host_port.ts";
import { parseBranchName, parseTenantId } from "../../src/common/id.ts";
import { parseLsn } from "../../src/common/lsn.ts";
import { parseTimestamp } from "../../src/common/timestamp.ts";
import { parseSettings } from "../../src/compute/postgres/postgres_conf.ts";
import { bareCommand } from "../../src/pgwire/command_text.ts";
import { parseConnInfo } from "../../src/pgwire/conninfo.ts";
import { answerDescribeQuery } from "../../src/pgwire/gdesc.ts";
import { ignoredStatementTag } from "../../src/pgwire/ignored_statement.ts";
import { STARTUP_PACKET_MAX_BYTES } from "../../src/pgwire/limits.ts";
import { parseStartReplication } from "../../src/pgwire/replication.ts";
import { parseCommandLineOptions } from "../../src/pgwire/startup.ts";

const LENGTH = 1 << 20;

const UNITS = [
  " ",
  "a",
  "'",
  "''",
  "\\",
  ";",
  "; ",
  "=",
  "a=",
  "a= ",
  "a=b ",
  "a='b' ",
  "('",
  "('',",
  "1",
  "/",
  ":",
  "-c ",
  "\t\n",
];

const DESCRIBE_QUERY = `SELECT name AS "a", pg_catalog.format_type(tp, tpm) AS "b"\nFROM (VALUES `;

const PARSERS: Readonly<Record<string, { prefixes: readonly string[]; parse(text: string): unknown }>> = {
  bareCommand: { prefixes: ["x"], parse: bareCommand },
  parseStartReplication: {
    prefixes: [
      "",
      "START_REPLICATION",
      "START_REPLICATION 0/0",
      "START_REPLICATION SLOT a PHYSICAL 0/0 TIMELINE 1",
    ],
    parse: parseStartReplication,
  },
  parseConnInfo: { prefixes: ["", "host=", "postgres://"], parse: parseConnInfo },
  answerDescribeQuery: { prefixes: [DESCRIBE_QUERY], parse: answerDescribeQuery },
  ignoredStatementTag: { prefixes: ["", "set"], parse: ignoredStatementTag },
  // A startup packet is no longer than that.
  parseCommandLineOptions: {
    prefixes: [""],
    parse: (text) => parseCommandLineOptions(text.slice(0, STARTUP_PACKET_MAX_BYTES)),
  },
  parseSettings: { prefixes: ["", "port", "port =", "port = 'a'", "port = 'a"], parse: parseSettings },
  parseTimestamp: { prefixes: ["", "2026-01-01"], parse: (text) => parseTimestamp(text, "none") },
  parseDuration: { prefixes: ["", "1"], parse: parseDuration },
  parseHostPort: { prefixes: ["", "["], parse: parseHostPort },
  parseLsn: { prefixes: [""], parse: parseLsn },
  parseTenantId: { prefixes: [""], parse: parseTenantId },
  parseBranchName: { prefixes: [""], parse: parseBranchName },
};

describe("a megabyte of nonsense is read at once by", () => {
  for (const [name, { prefixes, parse }] of Object.entries(PARSERS)) {
    test(name, () => {
      for (const prefix of prefixes) {
        for (const unit of UNITS) {
          const text = prefix + unit.repeat(LENGTH / unit.length) + "y'";
          try {
            parse(text);
          } catch (error) {
            assert.ok(error instanceof Error && !(error instanceof RangeError), String(error));
          }
        }
      }
    });
  }
});

test("a command loses the blanks and semicolons around it, and keeps those inside", () => {
  assert.equal(bareCommand("  status ; ;\n"), "status");
  assert.equal(bareCommand("a ; b"), "a ; b");
  assert.equal(bareCommand(" ; "), "");
});

test("a connection string that nobody would write is refused", () => {
  assert.throws(
    () => parseConnInfo("a=b ".repeat(40_000)),
    /invalid connection string: it has 160000 characters/,
  );
});
