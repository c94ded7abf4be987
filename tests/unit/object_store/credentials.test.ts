import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { findCredentials } from "../../../src/object_store/credentials.ts";

const dir = mkdtempSync(join(tmpdir(), "zenith-credentials-"));
after(() => rmSync(dir, { recursive: true, force: true }));

const file = join(dir, "credentials");
writeFileSync(
  file,
  "[default]\naws_access_key_id = A1\naws_secret_access_key = S1\n\n" +
    "[ other ]\naws_access_key_id=A2\naws_secret_access_key=S2==\naws_session_token=T2\n[half]\naws_access_key_id=A3\n",
);
const found = (env: Record<string, string>) => findCredentials({ AWS_SHARED_CREDENTIALS_FILE: file, ...env });

describe("credentials", () => {
  test("come from the environment first", () => {
    const env = { AWS_ACCESS_KEY_ID: "A", AWS_SECRET_ACCESS_KEY: "S" };
    assert.deepEqual(found(env), { accessKeyId: "A", secretAccessKey: "S" });
    assert.equal(found({ ...env, AWS_SESSION_TOKEN: "T" }).sessionToken, "T");
  });

  test("come from the profile of the file else", () => {
    assert.deepEqual(found({}), { accessKeyId: "A1", secretAccessKey: "S1" });
    assert.deepEqual(found({ AWS_PROFILE: "other" }), {
      accessKeyId: "A2",
      secretAccessKey: "S2==",
      sessionToken: "T2",
    });
  });

  test("are missing where a half of them is, and the error says where to write them", () => {
    const hint = `set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or write them to [half] in ${file}`;
    assert.throws(() => found({ AWS_PROFILE: "half" }), { failure: "denied", hint });
    assert.throws(() => found({ AWS_SHARED_CREDENTIALS_FILE: join(dir, "none") }), { failure: "denied" });
  });
});
