import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, test } from "node:test";
import type { Grant } from "../../../src/auth/claims.ts";
import { hasKeys, makeKey, signingKeyId } from "../../../src/auth/key_files.ts";
import { readTokenFile, writePrivateFile } from "../../../src/auth/private_file.ts";
import { madeTokens, revokedTokens } from "../../../src/auth/token_lists.ts";
import { signToken } from "../../../src/auth/sign.ts";
import { Verifier } from "../../../src/auth/verifier.ts";
import { ZenithError } from "../../../src/common/errors.ts";
import { generateTenantId, generateTimelineId } from "../../../src/common/id.ts";
import { AuthPaths } from "../../../src/common/paths.ts";
import {
  createToken,
  dropTokenFile,
  ensureTokenFile,
  listTokens,
  retireOldKeys,
  revokeToken,
  rotateKeys,
} from "../../../src/control/tokens.ts";

const tenant = generateTenantId();
const timeline = generateTimelineId();
const COMPUTE: Grant = { scope: "compute", tenant, timeline, addresses: ["127.0.0.1:15432"] };

let dir: string;
let auth: AuthPaths;
let problems: unknown[];

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "zenith-auth-"));
  auth = new AuthPaths(join(dir, "auth"));
  problems = [];
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

function open(): Promise<Verifier> {
  return Verifier.open(auth, (error) => problems.push(error));
}

function isForbidden(why: RegExp) {
  return (error: unknown) =>
    error instanceof ZenithError && error.kind === "forbidden" && why.test(error.message);
}

describe("a token", () => {
  test("says what its holder may do, to who has the public key alone", async () => {
    const kid = await makeKey(auth);
    const { text, claims } = await signToken(auth, "main", COMPUTE, 60_000);
    rmSync(auth.signing, { recursive: true });
    const principal = await (await open()).verify(text);
    assert.deepEqual(principal, { ...claims, kid });
    assert.equal(principal.scope, "compute");
    assert.equal(principal.timeline, timeline);
    assert.equal(principal.exp, principal.iat + 60);
  });

  test("is not made for what its scope can't name", async () => {
    await makeKey(auth);
    for (
      const grant of [
        { scope: "tenant" },
        { scope: "compute", tenant },
        { scope: "admin", tenant },
        { scope: "tenant", tenant, timeline },
        { scope: "safekeeper", tenant },
      ] as const
    ) {
      await assert.rejects(signToken(auth, "nobody", grant), /names (no|a) (tenant|timeline)/);
    }
  });

  test("is refused when it is another's, changed, expired or none", async () => {
    await makeKey(auth);
    const other = new AuthPaths(join(dir, "other"));
    await makeKey(other);
    const verifier = await open();
    const { text } = await signToken(auth, "a", { scope: "read", tenant });
    const admin = (await signToken(auth, "a", { scope: "admin" })).text;
    const [head, body, signature] = text.split(".");
    const unsigned = Buffer.from('{"alg":"none"}').toString("base64url");
    await assert.rejects(
      verifier.verify((await signToken(other, "a", { scope: "admin" })).text),
      isForbidden(/the key that signed the token is not trusted here/),
    );
    await assert.rejects(
      verifier.verify([head, admin.split(".")[1], signature].join(".")),
      isForbidden(/signature is wrong/),
    );
    await assert.rejects(verifier.verify(`${unsigned}.${body}.`), isForbidden(/this is not a token/));
    for (const none of ["", "x", "a.b.c", "\0", "é".repeat(9000)]) {
      await assert.rejects(verifier.verify(none), isForbidden(/this is not a token/));
    }
    const expired = await signToken(auth, "a", { scope: "admin" }, -60_000);
    for (let i = 0; i < 2; i++) {
      await assert.rejects(verifier.verify(expired.text), isForbidden(/expired at 20/));
    }
  });

  test("is refused once it is revoked, without a restart, and so is one that was verified before", async () => {
    await makeKey(auth);
    const verifier = await open();
    const { text, claims } = await createToken(auth, "ci", { scope: "tenant", tenant }, undefined);
    const principal = await verifier.verify(text);
    assert.equal(verifier.problem(principal), undefined);
    assert.equal(await revokeToken(auth, claims.jti.slice(0, 8)), claims.jti);
    await assert.rejects(verifier.verify(text), isForbidden(/was revoked/));
    assert.match(verifier.problem(principal) ?? "", /was revoked/);
    assert.deepEqual(listTokens(auth).map(({ state }) => state), ["revoked"]);
    await assert.rejects(revokeToken(auth, "nobody"), /no token with the id nobody/);
  });

  test("is forgotten when it has expired for a month, whether it was revoked or not", async () => {
    await makeKey(auth);
    const day = 86_400_000;
    const lifetimes = [-31 * day, -31 * day, -29 * day, undefined];
    const ids: string[] = [];
    // As an earlier version has left them, which forgot none.
    for (const lifetime of lifetimes) {
      const { claims, kid } = await signToken(auth, "ci", { scope: "admin" }, lifetime);
      ids.push(claims.jti);
      await madeTokens(auth).write([...madeTokens(auth).read() ?? [], { claims, kid }]);
    }
    await revokedTokens(auth).write(ids.slice(1));
    const { claims } = await createToken(auth, "new", { scope: "admin" }, undefined);
    assert.deepEqual(listTokens(auth).map((token) => token.claims.jti), [...ids.slice(2), claims.jti]);
    assert.deepEqual(revokedTokens(auth).read(), ids.slice(2));
  });

  test("stays good while what changed on disk can't be read, and that is said once", async () => {
    await makeKey(auth);
    const verifier = await open();
    const { text } = await signToken(auth, "a", { scope: "admin" });
    writeFileSync(auth.revoked, "rubbish\n");
    for (let i = 0; i < 3; i++) await verifier.verify(text);
    assert.equal(problems.length, 1);
    await assert.rejects(open(), /revoked begins with "rubbish"/);
  });
});

describe("keys", () => {
  test("are for their owner's eyes alone, and none are no reason to let anybody in", async () => {
    await assert.rejects(open(), /there is no key in .*trusted/);
    assert.equal(hasKeys(auth), false);
    const kid = await makeKey(auth);
    const mode = (path: string) => (statSync(path).mode & 0o777).toString(8);
    for (const path of [auth.dir, auth.signing, auth.trusted, auth.tokens]) assert.equal(mode(path), "700");
    for (const path of [join(auth.signing, `${kid}.pem`), join(auth.trusted, `${kid}.pem`)]) {
      assert.equal(mode(path), "600");
    }
    await ensureTokenFile(auth, auth.adminToken, "us", { scope: "admin" });
    assert.equal(mode(auth.adminToken), "600");
  });

  test("are rotated: old tokens stay good until their key is retired, files have new ones", async () => {
    await makeKey(auth);
    const verifier = await open();
    await ensureTokenFile(auth, auth.adminToken, "us", { scope: "admin" });
    const before = readTokenFile(auth.adminToken)!;
    const given = await createToken(auth, "ci", { scope: "tenant", tenant }, undefined);
    const principal = await verifier.verify(given.text);
    const key = await rotateKeys(auth, [auth.adminToken]);
    assert.equal(signingKeyId(auth), key);
    const after = readTokenFile(auth.adminToken)!;
    assert.notEqual(after, before);
    for (const text of [before, after, given.text]) await verifier.verify(text);
    assert.equal((await retireOldKeys(auth)).length, 1);
    await verifier.verify(after);
    for (const text of [before, given.text]) {
      await assert.rejects(verifier.verify(text), isForbidden(/not trusted/));
    }
    assert.match(verifier.problem(principal) ?? "", /is not trusted here/);
    assert.deepEqual(listTokens(auth).map(({ claims }) => claims.sub), ["us"]);
  });
});

describe("the list of revoked tokens", () => {
  test("forgets what old keys signed when those are retired, and nothing else", async () => {
    await makeKey(auth);
    const file = join(dir, "token");
    const destroyed = async () => {
      await ensureTokenFile(auth, file, "main", COMPUTE);
      const text = readTokenFile(file)!;
      await dropTokenFile(auth, file);
      return text;
    };
    const given = await createToken(auth, "ci", { scope: "admin" }, undefined);
    const texts = [await destroyed(), await destroyed()];
    await rotateKeys(auth, []);
    // Signed by the old key, revoked after the new one was made.
    await revokeToken(auth, given.claims.jti);
    texts.push(given.text);
    const last = await destroyed();
    assert.equal(revokedTokens(auth).read()?.length, 5);
    await retireOldKeys(auth);
    const left = revokedTokens(auth).read()!;
    assert.equal(left.length, 3);
    assert.match(left[0]!, /^retired:/);
    assert.equal(left[1], `key:${signingKeyId(auth)}`);
    const verifier = await open();
    for (const text of texts) await assert.rejects(verifier.verify(text), isForbidden(/not trusted/));
    await assert.rejects(verifier.verify(last), isForbidden(/was revoked/));
    await retireOldKeys(auth);
    assert.deepEqual(revokedTokens(auth).read(), left);
  });
});

describe("a server's token file", () => {
  test("keeps its token until it has to grant something else, which revokes the old one", async () => {
    await makeKey(auth);
    const file = join(dir, "token");
    await ensureTokenFile(auth, file, "main", COMPUTE);
    const first = readTokenFile(file)!;
    await ensureTokenFile(auth, file, "main", COMPUTE);
    assert.equal(readTokenFile(file), first);
    await ensureTokenFile(auth, file, "main", { ...COMPUTE, addresses: ["127.0.0.1:15433"] });
    assert.notEqual(readTokenFile(file), first);
    const verifier = await open();
    await assert.rejects(verifier.verify(first), isForbidden(/was revoked/));
    const second = readTokenFile(file)!;
    await verifier.verify(second);
    await dropTokenFile(auth, file);
    await assert.rejects(verifier.verify(second), isForbidden(/was revoked/));
    assert.equal(readTokenFile(file), undefined);
  });

  test("that has something else is said to be so, without showing it", () => {
    const file = join(dir, "token");
    writePrivateFile(file, "s3cret s3cret\n");
    assert.throws(() => readTokenFile(file), (error: Error) => {
      assert.doesNotMatch(error.message, /s3cret/);
      return /is not a token/.test(error.message);
    });
    assert.equal(readFileSync(file, "utf8"), "s3cret s3cret\n");
  });

  test("made by many at once gets one token, and no list loses an entry", async () => {
    await makeKey(auth);
    const file = join(dir, "token");
    await Promise.all([1, 2, 3].map(() => ensureTokenFile(auth, file, "main", COMPUTE)));
    await Promise.all([1, 2, 3].map((n) => createToken(auth, `ci ${n}`, { scope: "admin" }, undefined)));
    assert.deepEqual(listTokens(auth).map(({ claims }) => claims.sub), ["main", "ci 1", "ci 2", "ci 3"]);
  });
});
