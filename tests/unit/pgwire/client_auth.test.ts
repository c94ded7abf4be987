import { describe, test } from "node:test";
import assert from "node:assert/strict";
import { md5Password, ScramClient } from "../../../src/pgwire/client_auth.ts";
import { ProtocolError } from "../../../src/pgwire/sqlstate.ts";

/** The example exchange of RFC 7677, section 3; its user name is not empty as ours is, so its
 * signature is a well-formed one that is wrong here. A whole login is tested against a real Postgres. */
const NONCE = "rOprNGfwEbeRWgbNEkqO";
const SERVER_FIRST = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

describe("SCRAM-SHA-256", () => {
  test("sends its nonce without a user name", () => {
    assert.equal(new ScramClient("pencil", NONCE).firstMessage(), `n,,n=,r=${NONCE}`);
  });

  test("answers a challenge with a proof and refuses a server that does not know the password", async () => {
    const scram = new ScramClient("pencil", NONCE);
    const final = await scram.finalMessage(SERVER_FIRST);
    assert.match(
      final,
      /^c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj\)hNlF\$k0,p=[A-Za-z0-9+/]{43}=$/,
    );
    assert.throws(() => scram.verify("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="), ProtocolError);
    assert.throws(() => scram.verify("e=invalid-proof"), ProtocolError);
    assert.throws(() => scram.verify("v=AAAA"), ProtocolError);
  });

  test("refuses challenges that are malformed, not ours, or too expensive", async () => {
    for (
      const challenge of [
        "",
        "r=abc",
        SERVER_FIRST.replace(NONCE, "other"),
        `r=${NONCE},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096`,
        SERVER_FIRST.replace("4096", "0"),
        SERVER_FIRST.replace("4096", "999999999"),
        SERVER_FIRST.replace("W22ZaJ0SNY7soEsUEjb6gQ==", "====="),
      ]
    ) {
      await assert.rejects(
        new ScramClient("pencil", NONCE).finalMessage(challenge),
        ProtocolError,
        challenge,
      );
    }
  });

  test("does not accept an outcome before a challenge", () => {
    assert.throws(() => new ScramClient("pencil").verify("v="), ProtocolError);
  });
});

test("an MD5 answer is the salted hash of PostgreSQL's stored password", () => {
  // md5(md5("secret" + "zoe") + 01020304)
  assert.equal(
    md5Password("zoe", "secret", Uint8Array.of(1, 2, 3, 4)),
    "md5009e4855d1d5ee88db51ce73b073d5b9",
  );
});
