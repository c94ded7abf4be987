/** Opens an object store by its URL, and checks that it does what it must. */
import { randomBytes } from "node:crypto";
import { ZenithError } from "../common/errors.ts";
import { findCredentials } from "./credentials.ts";
import { DirectoryStore } from "./directory.ts";
import { parseObjectStoreUrl } from "./location.ts";
import { isFailure, type ObjectStore } from "./object_store.ts";
import { RetryingStore } from "./retrying.ts";
import { S3Store } from "./s3.ts";

/** @throws {ZenithError} `invalid_argument` when `url` is not an object store's, `io` */
export function openObjectStore(url: string): RetryingStore {
  const location = parseObjectStoreUrl(url);
  return new RetryingStore(
    location.kind === "file"
      ? new DirectoryStore(location.path)
      : new S3Store(location, () => findCredentials()),
  );
}

/**
 * Writes, lists, reads and removes an object, and sees that the store refuses to replace it.
 *
 * @throws {ZenithError} what the store can't do
 */
export async function probeObjectStore(store: ObjectStore): Promise<void> {
  const key = `probe/${randomBytes(8).toString("hex")}`;
  const body = new TextEncoder().encode(key);
  await store.putIfAbsent(key, body);
  try {
    const replacing = store.putIfAbsent(key, new Uint8Array()).then(() => false, (error: unknown) => {
      if (isFailure(error, "precondition")) return true;
      throw error;
    });
    const [isRefused, found, listed] = await Promise.all([
      replacing,
      store.get(key, { start: 0, end: body.length }),
      store.list(key),
    ]);
    if (!isRefused) {
      throw new ZenithError("not_implemented", `${store.url} replaces objects where it must refuse to`, {
        hint: "Zenith needs a store that knows If-None-Match, such as AWS S3 or Ceph 16 and later",
      });
    }
    if (new TextDecoder().decode(found) !== key || listed.objects.length !== 1) {
      throw new ZenithError("protocol", `${store.url} does not return what was written to it`);
    }
  } finally {
    await store.deleteMany([key]);
  }
}
