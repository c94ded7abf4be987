import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { errorMessage, ZenithError } from "../../../src/common/errors.ts";
import { redactPasswords } from "../../../src/common/redact.ts";
import { formatConnInfo } from "../../../src/pgwire/conninfo.ts";

describe("the passwords of connection strings", () => {
  test("are masked, whatever form they have, and nothing else is", () => {
    const cases: readonly (readonly [text: string, redacted: string])[] = [
      ["postgres://zoe:hunter2@db:5432/main", "postgres://zoe:***@db:5432/main"],
      ["postgresql://zoe:p%40w@[::1]/x?sslmode=disable", "postgresql://zoe:***@[::1]/x?sslmode=disable"],
      ["postgres://:hunter2@db", "postgres://:***@db"],
      ["postgres://zoe:p@ss/w?rd@db/main", "postgres://zoe:***@db/main"],
      [
        "postgres://db/x?user=zoe&password=hunter2&port=1",
        "postgres://db/x?user=zoe&password=***&port=1",
      ],
      ["https://key:hunter2@s3.example/bucket", "https://key:***@s3.example/bucket"],
      ["host=db password=hunter2 user=zoe", "host=db password=*** user=zoe"],
      ["host=db PASSWORD = 'it\\'s my pw' user=zoe", "host=db PASSWORD = *** user=zoe"],
      ["password=a\\ b user=zoe", "password=*** user=zoe"],
      ["password='not closed user=zoe", "password=***"],
      [
        "primary_conninfo = 'host=db password=''a b'' user=zoe'",
        "primary_conninfo = 'host=db password=*** user=zoe'",
      ],
      ["sslpassword=hunter2", "sslpassword=***"],
      [
        "could not reach postgres://zoe:hunter2@db: refused",
        "could not reach postgres://zoe:***@db: refused",
      ],
      ["connect to postgres://zoe@db:5432/main", "connect to postgres://zoe@db:5432/main"],
      ["http://[::1]:8080/a@b", "http://[::1]:8080/a@b"],
      ["host=db user=zoe passwordless=yes", "host=db user=zoe passwordless=yes"],
      ["password authentication failed for user zoe", "password authentication failed for user zoe"],
    ];
    for (const [text, redacted] of cases) assert.equal(redactPasswords(text), redacted);
  });

  test("don't survive in any string that we write ourselves", () => {
    const password = fc.string({ minLength: 1, maxLength: 12, unit: fc.constantFrom(..."ab '\\=@/:?&#") });
    fc.assert(
      fc.property(password, (tail) => {
        const secret = `s3cr3t${tail}s3cr3t`;
        const text = `callmemaybe 1 2 ${
          formatConnInfo({ host: "db", user: "zoe", password: secret, port: 1 })
        }`;
        for (const shown of [text, `postgres://zoe:${encodeURIComponent(secret)}@db/main`]) {
          assert.ok(!redactPasswords(shown).includes("s3cr3t"), shown);
        }
      }),
    );
  });

  test("are masked in every error of ours and in the text of every other", () => {
    const error = new ZenithError("unavailable", "could not reach postgres://zoe:hunter2@db", {
      hint: "try host=db password=hunter2",
    });
    assert.equal(error.message, "could not reach postgres://zoe:***@db");
    assert.equal(error.hint, "try host=db password=***");
    assert.equal(errorMessage(new Error("password=hunter2 is wrong")), "password=*** is wrong");
  });
});
