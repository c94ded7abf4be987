/**
 * Parses where an object store is: `s3://bucket/prefix?endpoint=…&region=…` or `file:///path`.
 * Credentials are no part of it.
 */
import { isAbsolute } from "node:path";
import { fileURLToPath } from "node:url";
import { ZenithError } from "../common/errors.ts";

export interface S3Location {
  readonly kind: "s3";
  readonly bucket: string;
  /** Empty, or ends with `/`. */
  readonly prefix: string;
  readonly region: string;
  /** The server's URL. AWS's own of the region when it isn't given. */
  readonly endpoint: URL;
  /** Whether the bucket is in the path of a URL, or the first part of its host. */
  readonly addressing: "path" | "virtual";
  /** A file with the certificates that the server's is signed by. Null for those of the system. */
  readonly caFile: string | null;
}

export interface DirectoryLocation {
  readonly kind: "file";
  readonly path: string;
}

export type ObjectStoreLocation = S3Location | DirectoryLocation;

const DEFAULT_REGION = "us-east-1";
const BUCKET = /^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/;
const PREFIX = /^[A-Za-z0-9_-][A-Za-z0-9._-]*(?:\/[A-Za-z0-9_-][A-Za-z0-9._-]*)*$/;
const PARAMETERS = ["endpoint", "region", "addressing", "ca"];
const EXAMPLE = 'expected "s3://bucket/prefix?endpoint=https://host:port&region=name" or "file:///path"';

/** @throws {ZenithError} `invalid_argument`, saying which part is wrong */
export function parseObjectStoreUrl(text: string): ObjectStoreLocation {
  let url: URL;
  try {
    url = new URL(text);
  } catch {
    throw wrong(text, EXAMPLE);
  }
  if (url.username !== "" || url.password !== "") {
    throw new ZenithError("invalid_argument", "an object store's URL has no user and no password", {
      hint: "credentials come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or ~/.aws/credentials",
    });
  }
  if (url.hash !== "") throw wrong(text, "a # has no meaning there");
  if (url.protocol === "file:") return parseDirectory(text, url);
  if (url.protocol === "s3:") return parseS3(text, url);
  throw wrong(text, EXAMPLE);
}

function parseDirectory(text: string, url: URL): DirectoryLocation {
  if (url.host !== "" || url.search !== "") throw wrong(text, 'expected "file:///path"');
  const path = fileURLToPath(url);
  if (!isAbsolute(path) || path === "/") throw wrong(text, "expected the path of a directory");
  return { kind: "file", path: path.replace(/\/+$/, "") };
}

function parseS3(text: string, url: URL): S3Location {
  const unknown = [...url.searchParams.keys()].find((name) => !PARAMETERS.includes(name));
  if (unknown !== undefined) {
    throw wrong(text, `"${unknown}" is none of its parameters, which are ${PARAMETERS.join(", ")}`);
  }
  const bucket = url.host;
  if (!BUCKET.test(bucket)) throw wrong(text, `"${bucket}" can't be the name of a bucket`);
  const prefix = url.pathname.replace(/^\/+|\/+$/g, "");
  if (prefix !== "" && !PREFIX.test(prefix)) {
    throw wrong(text, `"${prefix}" can't be the prefix: expected letters, digits and "._-/"`);
  }
  const region = url.searchParams.get("region") ?? DEFAULT_REGION;
  if (!/^[a-z0-9-]+$/.test(region)) throw wrong(text, `"${region}" can't be a region`);
  const given = url.searchParams.get("endpoint");
  const addressing = url.searchParams.get("addressing") ?? (given === null ? "virtual" : "path");
  if (addressing !== "path" && addressing !== "virtual") {
    throw wrong(text, `addressing is "${addressing}": expected path or virtual`);
  }
  const caFile = url.searchParams.get("ca");
  if (caFile !== null && !isAbsolute(caFile)) throw wrong(text, "ca is not the absolute path of a file");
  return {
    kind: "s3",
    bucket,
    prefix: prefix === "" ? "" : `${prefix}/`,
    region,
    endpoint: parseEndpoint(text, given ?? `https://s3.${region}.amazonaws.com`),
    addressing,
    caFile,
  };
}

function parseEndpoint(text: string, endpoint: string): URL {
  try {
    const url = new URL(endpoint);
    const isBare = url.pathname === "/" && url.search === "" && url.hash === "" && url.username === "";
    if (isBare && (url.protocol === "http:" || url.protocol === "https:")) return url;
  } catch {
    // Reported below.
  }
  throw wrong(text, `endpoint is "${endpoint}": expected http://host:port or https://host:port`);
}

function wrong(text: string, why: string): ZenithError {
  return new ZenithError("invalid_argument", `"${text}" is not an object store's URL: ${why}`);
}
