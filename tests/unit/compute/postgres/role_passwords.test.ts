/** The passwords of a tenant's roles: made once, and changed by whoever writes others into the file. */
import assert from "node:assert/strict";
import { lstatSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { rolePasswords, scramVerifier } from "../../../../src/compute/postgres/role_passwords.ts";

describe("the passwords of roles", () => {
  let dir: string;
  let file: string;

  before(() => {
    dir = mkdtempSync(join(tmpdir(), "zenith-passwords-"));
    file = join(dir, "tenant", "pgpass");
  });
  after(() => rmSync(dir, { recursive: true }));

  test("are verified as PostgreSQL does it", () => {
    // What RFC 7677 gives for the password "pencil".
    const salt = new Uint8Array(Buffer.from("W22ZaJ0SNY7soEsUEjb6gQ==", "base64"));
    assert.equal(
      scramVerifier("pencil", salt),
      "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:" +
        "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=",
    );
  });

  test("are made once, for the owner's eyes", () => {
    const made = rolePasswords(file).get("zenith_admin")!;
    assert.match(made.password, /^[\w-]{32}$/);
    assert.deepEqual(rolePasswords(file).get("zenith_admin"), made);
    assert.equal(lstatSync(file).mode & 0o777, 0o600);
    assert.deepEqual(readdirSync(join(dir, "tenant")), ["pgpass"], "nothing else is left");
  });

  test("are what libpq reads in the file, and get a verifier that stays", () => {
    writeFileSync(file, "# mine\n*:*:*:zenith_admin:a\\:b\\\\c\n*:*:*:zenith_admin:not this\n");
    const { password, verifier } = rolePasswords(file).get("zenith_admin")!;
    assert.equal(password, "a:b\\c");
    const salt = Buffer.from(/:([^$]+)\$/.exec(verifier)![1], "base64");
    assert.equal(verifier, scramVerifier(password, new Uint8Array(salt)));
    assert.equal(rolePasswords(file).get("zenith_admin")!.verifier, verifier);
    assert.match(readFileSync(file, "utf8"), /^\*:\*:\*:zenith_admin:a\\:b\\\\c$/m);
  });

  test("are an error where they can't be kept", () => {
    writeFileSync(join(dir, "no directory"), "");
    assert.throws(
      () => rolePasswords(join(dir, "no directory", "pgpass")),
      /could not read or write .*pgpass/,
    );
  });
});
