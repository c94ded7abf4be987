/**
 * Finds the credentials for S3 where AWS's own tools find them: in the environment, else in the
 * shared credentials file.
 */
import { readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { ioError, systemErrorCode } from "../common/errors.ts";
import { ObjectStoreError } from "./object_store.ts";

export interface Credentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string;
}

type Variables = Readonly<Record<string, string | undefined>>;

/**
 * Reads them anew at each call, because keys in a file are replaced while programs run.
 *
 * @throws {ObjectStoreError} `denied` when there are none
 * @throws {ZenithError} `io` when the file can't be read
 */
export function findCredentials(env: Variables = process.env): Credentials {
  const accessKeyId = env["AWS_ACCESS_KEY_ID"];
  const secretAccessKey = env["AWS_SECRET_ACCESS_KEY"];
  if (accessKeyId && secretAccessKey) {
    const sessionToken = env["AWS_SESSION_TOKEN"];
    return { accessKeyId, secretAccessKey, ...(sessionToken ? { sessionToken } : {}) };
  }
  const path = env["AWS_SHARED_CREDENTIALS_FILE"] || join(homedir(), ".aws", "credentials");
  const profile = env["AWS_PROFILE"] || "default";
  const found = parseProfile(readIfThere(path), profile);
  if (found !== undefined) return found;
  throw new ObjectStoreError("denied", `there are no credentials for the object store`, {
    hint: `set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or write them to [${profile}] in ${path}`,
  });
}

function readIfThere(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    if (systemErrorCode(error) === "ENOENT") return "";
    throw ioError("read", path, error);
  }
}

/** Returns a section's keys, undefined when it doesn't have both. */
function parseProfile(text: string, profile: string): Credentials | undefined {
  const values = new Map<string, string>();
  let section = "";
  for (const line of text.split("\n")) {
    const heading = /^\s*\[\s*(.+?)\s*\]/.exec(line);
    if (heading !== null) section = heading[1]!;
    const setting = /^\s*([a-z_]+)\s*=\s*(\S+)\s*$/.exec(line);
    if (setting !== null && section === profile) values.set(setting[1]!, setting[2]!);
  }
  const accessKeyId = values.get("aws_access_key_id");
  const secretAccessKey = values.get("aws_secret_access_key");
  const sessionToken = values.get("aws_session_token");
  if (accessKeyId === undefined || secretAccessKey === undefined) return undefined;
  return { accessKeyId, secretAccessKey, ...(sessionToken === undefined ? {} : { sessionToken }) };
}
