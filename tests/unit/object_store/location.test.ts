import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { parseObjectStoreUrl, type S3Location } from "../../../src/object_store/location.ts";

const s3 = (text: string) => parseObjectStoreUrl(text) as S3Location;

describe("an object store's URL", () => {
  test("names a directory", () => {
    assert.deepEqual(parseObjectStoreUrl("file:///srv/my%20zenith/"), {
      kind: "file",
      path: "/srv/my zenith",
    });
  });

  test("names a bucket at AWS, whose host it is part of", () => {
    const { bucket, prefix, region, endpoint, addressing, caFile } = s3("s3://backups?region=eu-west-1");
    assert.deepEqual({ bucket, prefix, region, addressing, caFile, endpoint: endpoint.origin }, {
      bucket: "backups",
      prefix: "",
      region: "eu-west-1",
      addressing: "virtual",
      caFile: null,
      endpoint: "https://s3.eu-west-1.amazonaws.com",
    });
  });

  test("names a server of one's own, with the bucket in the path", () => {
    const url = "s3://backups/edge/1/?endpoint=https://ceph:7480&ca=/etc/ssl/ours.pem";
    const { prefix, endpoint, addressing, caFile } = s3(url);
    assert.deepEqual({ prefix, addressing, caFile, endpoint: endpoint.origin }, {
      prefix: "edge/1/",
      addressing: "path",
      caFile: "/etc/ssl/ours.pem",
      endpoint: "https://ceph:7480",
    });
    assert.equal(s3(`${url}&addressing=virtual`).addressing, "virtual");
  });

  for (
    const [text, why] of [
      ["", /expected "s3:/],
      ["/srv/zenith", /expected "s3:/],
      ["http://bucket", /expected "s3:/],
      ["file://host/path", /expected "file:/],
      ["file:///", /the path of a directory/],
      ["s3://", /"" can't be the name of a bucket/],
      ["s3://B_cket", /can't be the name of a bucket/],
      ["s3://bucket/a b", /can't be the prefix/],
      ["s3://bucket/../a?regin=x", /"regin" is none of its parameters/],
      ["s3://bucket?region=a/b", /can't be a region/],
      ["s3://bucket?endpoint=host:80", /endpoint is "host:80"/],
      ["s3://bucket?endpoint=http://host/path", /endpoint is/],
      ["s3://bucket?addressing=dns", /expected path or virtual/],
      ["s3://bucket?ca=ours.pem", /absolute path/],
    ] as const
  ) {
    test(`is refused: ${JSON.stringify(text)}`, () => {
      assert.throws(() => parseObjectStoreUrl(text), { kind: "invalid_argument", message: why });
    });
  }

  test("has no credentials, and an error does not repeat them", () => {
    assert.throws(() => parseObjectStoreUrl("s3://key:topsecret@bucket"), (error: Error) => {
      assert.match(error.message, /no user and no password/);
      return !error.message.includes("topsecret");
    });
  });
});
