import { describe, test } from "node:test";
import assert from "node:assert/strict";
import fc from "fast-check";
import { ZenithError } from "../../../src/common/errors.ts";
import { formatConnInfo, parseConnInfo } from "../../../src/pgwire/conninfo.ts";

describe("connection strings", () => {
  test("in keyword form", () => {
    const info = parseConnInfo(
      `host = 'my host' port=6543 user=zoe dbname=a\\ b password='it\\'s' sslmode=disable`,
    );
    assert.equal(info.host, "my host");
    assert.equal(info.port, 6543);
    assert.equal(info.user, "zoe");
    assert.equal(info.database, "a b");
    assert.equal(info.password, "it's");
  });

  test("in URI form", () => {
    const info = parseConnInfo(
      "postgresql://zo%40e:p%3Aw@[::1]:6543/db?application_name=ps&options=-c%20a%3Db&connect_timeout=3&replication=true",
    );
    assert.equal(info.user, "zo@e");
    assert.equal(info.password, "p:w");
    assert.equal(info.host, "::1");
    assert.equal(info.port, 6543);
    assert.equal(info.database, "db");
    assert.equal(info.applicationName, "ps");
    assert.equal(info.options, "-c a=b");
    assert.equal(info.connectTimeoutMs, 3000);
    assert.equal(info.replication, true);
  });

  test("fill in what is not given", () => {
    for (const text of ["", "postgres://"]) {
      const info = parseConnInfo(text);
      assert.equal(info.host, "localhost");
      assert.equal(info.port, 5432);
      assert.equal(info.user, "postgres");
      assert.equal(info.database, "postgres");
      assert.equal(info.replication, false);
    }
    assert.equal(parseConnInfo("user=zoe").database, "zoe");
    assert.equal(parseConnInfo("postgresql:///db?host=/run/pg").host, "/run/pg");
  });

  test("come back as they were formatted", () => {
    const word = fc.string({
      minLength: 1,
      maxLength: 10,
      unit: fc.constantFrom("a", "B", "'", "\\", " ", "=", "/"),
    });
    fc.assert(
      fc.property(
        word,
        word,
        word,
        fc.integer({ min: 1, max: 65535 }),
        fc.boolean(),
        (host, user, password, port, replication) => {
          const info = parseConnInfo(formatConnInfo({ host, user, password, port, replication }));
          assert.deepEqual(
            [info.host, info.user, info.password, info.port, info.replication],
            [host, user, password, port, replication],
          );
        },
      ),
    );
  });

  test("say how much is asked of TLS", () => {
    const modes = ["disable", "prefer", "require", "verify-ca", "verify-full"] as const;
    for (const sslMode of modes) {
      const info = parseConnInfo(formatConnInfo({ sslMode, sslRootCert: "/a b/ca.pem" }));
      assert.deepEqual([info.sslMode, info.sslRootCert], [sslMode, "/a b/ca.pem"]);
    }
    assert.equal(parseConnInfo("postgres://h/d?sslmode=require").sslMode, "require");
    assert.equal(parseConnInfo("host=h").sslMode, undefined);
    assert.equal(parseConnInfo("sslmode=allow").sslMode, "disable");
  });

  test("that are malformed are refused", () => {
    for (
      const text of [
        "host",
        "host=a'b",
        "host='a",
        "port=0",
        "port=x",
        "sslmode=always",
        "replication=database",
        "connect_timeout=soon",
        "postgresql://a,b/db",
        "postgresql://h:99999/db",
        "postgresql://%zz/db",
        "postgresql://h/db?host",
      ]
    ) {
      assert.throws(
        () => parseConnInfo(text),
        (error: unknown) => error instanceof ZenithError && error.kind === "invalid_argument",
        text,
      );
    }
  });
});
