/** The S3 client against a real server: Ceph's gateway. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { createServer } from "node:tls";
import { AwsClient } from "aws4fetch";
import type { Credentials } from "../../src/object_store/credentials.ts";
import { parseObjectStoreUrl, type S3Location } from "../../src/object_store/location.ts";
import type { ObjectStore } from "../../src/object_store/object_store.ts";
import { S3Store } from "../../src/object_store/s3.ts";
import { Ceph, whyNoCeph } from "../harness/ceph.ts";
import { recoverEdgeHost } from "../harness/edge_recovery.ts";
import { failsWith, objectStoreSuite } from "../harness/object_store_suite.ts";
import { KeyFile } from "../harness/key_file.ts";
import { freePort } from "../harness/ports.ts";

const skip = whyNoCeph() ?? false;
const BUCKET = "tests";
let ceph: Ceph;

function store(more = "", credentials: Credentials = ceph.user, bucket = BUCKET): ObjectStore {
  const url = `s3://${bucket}/some/prefix?endpoint=${ceph.endpoint}&region=default${more}`;
  return new S3Store(parseObjectStoreUrl(url) as S3Location, () => credentials);
}

describe("an object store that speaks S3", { skip }, () => {
  before(async () => {
    ceph = await Ceph.start();
    const client = new AwsClient({ ...ceph.user, service: "s3", region: "default" });
    const made = await client.fetch(`${ceph.endpoint}/${BUCKET}`, { method: "PUT" });
    assert.equal(made.status, 200);
  });
  after(async () => await ceph?.[Symbol.asyncDispose]());

  objectStoreSuite(store);

  test("keeps to its prefix", async () => {
    await store().put("mine/a", Uint8Array.of(1));
    const others = new S3Store(
      parseObjectStoreUrl(`s3://${BUCKET}?endpoint=${ceph.endpoint}`) as S3Location,
      () => ceph.user,
    );
    assert.deepEqual((await others.list("mine/")).objects, []);
    assert.deepEqual((await others.list("some/prefix/mine/")).objects.map(({ key }) => key), [
      "some/prefix/mine/a",
    ]);
  });

  test("names the bucket in the host where that is asked for", async () => {
    await store().put("host/a", Uint8Array.of(1));
    const port = new URL(ceph.endpoint).port;
    const url = `s3://${BUCKET}/some/prefix?endpoint=http://localhost:${port}&addressing=virtual`;
    const virtual = new S3Store(parseObjectStoreUrl(url) as S3Location, () => ceph.user);
    assert.deepEqual(await virtual.get("host/a"), Uint8Array.of(1));
  });

  test("says that credentials are refused, and does not show them", async () => {
    const wrong = { ...ceph.user, secretAccessKey: "not the one" };
    const refused = store("", wrong);
    for (const request of [() => refused.get("a"), () => refused.put("a", Uint8Array.of(1))]) {
      await assert.rejects(request, (error: Error & { hint?: string }) => {
        assert.ok(failsWith("denied")(error), error.message);
        assert.match(error.message, /403, SignatureDoesNotMatch/);
        assert.ok(!`${error.message}${error.hint}`.includes("not the one"));
        return true;
      });
    }
  });

  test("says that there is no such bucket, and not that the object is absent", async () => {
    await assert.rejects(store("", ceph.user, "no-such-bucket").get("a"), failsWith("denied"));
    await assert.rejects(store("", ceph.user, "no-such-bucket").list(""), failsWith("denied"));
  });

  test("speaks TLS with a server whose certificate is signed by somebody named to it", async () => {
    const dir = mkdtempSync(join(tmpdir(), "zenith-tls-"));
    const [key, cert] = [join(dir, "key.pem"), join(dir, "cert.pem")];
    const made = spawnSync("openssl", [
      ...["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"],
      ...["-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", cert],
    ], { encoding: "utf8" });
    assert.equal(made.status, 0, made.stderr);
    const to = Number(new URL(ceph.endpoint).port);
    const server = createServer({ key: readFileSync(key), cert: readFileSync(cert) }, (socket) => {
      const gateway = connect(to, "127.0.0.1");
      socket.on("error", () => gateway.destroy());
      gateway.on("error", () => socket.destroy());
      socket.pipe(gateway).pipe(socket);
    });
    const port = await freePort();
    await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve));
    try {
      const url = `s3://${BUCKET}?endpoint=https://localhost:${port}`;
      const open = (more: string) =>
        new S3Store(parseObjectStoreUrl(url + more) as S3Location, () => ceph.user);
      const trusting = open(`&ca=${cert}`);
      await trusting.put("tls/a", Uint8Array.of(1));
      assert.deepEqual(await trusting.get("tls/a"), Uint8Array.of(1));
      await assert.rejects(open("").get("tls/a"), failsWith("unreachable"));
    } finally {
      server.close();
      rmSync(dir, { recursive: true });
    }
  });

  test("brings back a host that dies under load, encrypted", { timeout: 240_000 }, async () => {
    process.env["AWS_ACCESS_KEY_ID"] = ceph.user.accessKeyId;
    process.env["AWS_SECRET_ACCESS_KEY"] = ceph.user.secretAccessKey;
    const key = new KeyFile();
    try {
      await recoverEdgeHost(`s3://${BUCKET}/edge?endpoint=${ceph.endpoint}`, key.path);
    } finally {
      key.remove();
    }
  });

  test("says that nobody answers", async () => {
    const url = `s3://${BUCKET}?endpoint=http://127.0.0.1:9`;
    const nobody = new S3Store(parseObjectStoreUrl(url) as S3Location, () => ceph.user);
    await assert.rejects(nobody.get("a"), failsWith("unreachable"));
  });
});
