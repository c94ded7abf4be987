/** Surveys what the page server has uploaded to its object store, and what it has not. */
import type { ObjectStoreStatus, PageServerClient } from "../page_server_client.ts";
import { ask } from "./ask.ts";
import type { Problem } from "./problem.ts";

export interface ObjectStoreSurvey {
  readonly url: string;
  /** What is not in the store yet, as far as it is known. */
  readonly pending_bytes: number;
  /** Since when something is not, in RFC 3339. Null when all is there. */
  readonly pending_since: string | null;
  /** What layers take on the page server's disk. Null when it doesn't say. */
  readonly disk: NonNullable<ObjectStoreStatus["disk"]> | null;
  /** How what is uploaded is encrypted. Null when it is not, or the page server doesn't say. */
  readonly encryption: NonNullable<ObjectStoreStatus["encryption"]> | null;
  readonly tenants: ObjectStoreStatus["tenants"];
}

/** When something has not been uploaded for this long, that is a problem. */
const LATE_MS = 60_000;

/**
 * Returns null when there is no store. A page server of an older version has none, and answers that
 * it does not know the question.
 */
export async function surveyObjectStore(
  client: PageServerClient,
  problems: Problem[],
): Promise<ObjectStoreSurvey | null> {
  const { answer } = await ask(() => client.objectStoreStatus());
  if (answer === undefined || answer === null) return null;
  const { url, tenants, disk = null, encryption = null } = answer;
  const since = tenants.map(({ pending_since }) => pending_since).filter((time) => time !== null).sort()[0];
  const errors = new Set<string>();
  for (const { taken_over, error } of tenants) {
    if (error === null || errors.has(error)) continue;
    errors.add(error);
    problems.push({
      what: taken_over ? error : `uploads fail: ${error}`,
      hint: taken_over
        ? "use the tenant where it is now; what was written here since is only on this disk"
        : "they are tried again until they succeed; safekeepers keep their WAL until then",
      down: taken_over,
    });
  }
  if (encryption !== null && encryption.error !== null) {
    problems.push({
      what: `the object store's key can't be read: ${encryption.error}`,
      hint: "put the copy there that was kept of it: the page server does not start without it",
      down: false,
    });
  }
  if (disk?.is_full === true) {
    problems.push({
      what:
        `the page server takes in no more WAL: layers that are not uploaded fill its ${disk.limit_bytes} bytes`,
      hint: "it goes on when the object store has them; layer_disk_bytes in pageserver.toml is the limit",
      down: false,
    });
  }
  if (since !== undefined && errors.size === 0 && Date.now() - Date.parse(since) > LATE_MS) {
    problems.push({
      what: `something has not been uploaded to ${url} since ${since}`,
      hint: "first uploads take as long as the data need; else the store or the way to it is too slow",
      down: false,
    });
  }
  return {
    url,
    pending_bytes: tenants.reduce((sum, { pending_bytes }) => sum + pending_bytes, 0),
    pending_since: since ?? null,
    disk,
    encryption,
    tenants,
  };
}
