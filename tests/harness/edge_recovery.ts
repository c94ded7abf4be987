/** A host with an object store dies under load with its disk, and another one goes on. */
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { isFailure, listAll } from "../../src/object_store/object_store.ts";
import { openObjectStore } from "../../src/object_store/open_store.ts";
import { removeLazyStorage } from "../../src/compute/lazy/remove_lazy_storage.ts";
import { type Compute, until, ZenithEnv } from "./zenith_env.ts";

const WRITERS = 3;
/** In every row that is committed. */
const MARK = "nobody else must read this";

/** Writers that commit numbers, one after the other, until their Postgres is gone. */
class Load {
  /** The last number that was acknowledged to each writer. */
  readonly acknowledged = new Array<number>(WRITERS).fill(0);
  readonly ended: Promise<unknown>;

  constructor(pg: Compute) {
    this.ended = Promise.all(this.acknowledged.map((_, writer) => this.#write(pg, writer)));
  }

  async #write(pg: Compute, writer: number): Promise<void> {
    try {
      await using connection = await pg.connect();
      for (let n = 1;; n++) {
        await connection.query(
          `INSERT INTO commits VALUES (${writer}, ${n}, repeat(md5('${n}'), 20) || '${MARK}')`,
        );
        this.acknowledged[writer] = n;
      }
    } catch {
      // The host has died.
    }
  }
}

async function remoteConsistent(env: ZenithEnv): Promise<number> {
  const all = (await env.safekeepers[0]!.status()).map(({ remote_consistent_lsn }) => remote_consistent_lsn);
  return Math.max(0, ...all);
}

async function commitEnd(env: ZenithEnv): Promise<number> {
  return Math.max(0, ...(await env.safekeepers[0]!.status()).map(({ commit_lsn }) => commit_lsn));
}

/** The layers that are whole on a host's disk. */
export function layersOn({ repoDir }: ZenithEnv): string[] {
  const names = readdirSync(join(repoDir, "tenants"), { recursive: true, encoding: "utf8" });
  return names.filter((name) => name.endsWith(".layer"));
}

/** Whether a text is in any of a store's objects as it lies there. */
async function hasText(url: string, text: string): Promise<boolean> {
  const store = openObjectStore(url);
  for await (const { key } of listAll(store, "tenants/")) {
    try {
      if (Buffer.from(await store.get(key)).includes(text)) return true;
    } catch (error) {
      // Removed since it was listed.
      if (!isFailure(error, "absent")) throw error;
    }
  }
  return false;
}

/**
 * @param url of a store that nobody else uses
 * @param keyFile encrypts it
 */
export async function recoverEdgeHost(url: string, keyFile?: string): Promise<void> {
  const encrypted = keyFile === undefined ? [] : ["--key-file", keyFile];
  await using lost = await ZenithEnv.create({
    init: ["--object-store", url, ...encrypted],
    safekeepers: 1,
  });
  const pg = await lost.startCompute();
  await pg.query("CREATE TABLE commits (writer int, n int, filler text, PRIMARY KEY (writer, n))");
  await pg.query("CREATE TABLE bulk AS SELECT n, md5(n::text) AS word FROM generate_series(1, 20000) n");
  await lost.branch("before", `main@${await pg.lsn()}`);
  await lost.zenith("pg", "config", "main", "work_mem=7MB");
  await until("branches and settings are in the store", async () => {
    await using client = lost.pageserver.client();
    return (await client.objectStoreStatus())?.tenants[0]?.pending_since === null;
  });
  const load = new Load(pg);
  await until("every writer has committed", () => load.acknowledged.every((n) => n > 20));
  const safe = load.acknowledged.slice();
  const end = await commitEnd(lost);
  await until("what was committed is in the store", async () => await remoteConsistent(lost) >= end);
  await until("the writers have gone on", () => load.acknowledged.every((n, i) => n > safe[i]! + 20));

  lost.killEverything();
  await load.ended;
  // WAL is not compressed.
  assert.equal(
    await hasText(url, MARK),
    keyFile === undefined,
    "what was committed can be read in the store",
  );
  // What a dead process has mounted would stay, and its files could not be removed.
  removeLazyStorage(pg.paths);
  rmSync(lost.repoDir, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
  assert.ok(!existsSync(lost.repoDir), "nothing is left of the host");

  await using found = await ZenithEnv.create({ init: ["--from", url, ...encrypted], safekeepers: 1 });
  assert.deepEqual(layersOn(found), [], "layers stay in the store until they are read");
  const again = await found.startCompute();
  for (let writer = 0; writer < WRITERS; writer++) {
    const where = `FROM commits WHERE writer = ${writer}`;
    const count = Number(await again.value(`SELECT count(*) ${where}`));
    const last = Number(await again.value(`SELECT max(n) ${where}`));
    assert.equal(count, last, `writer ${writer}: none of its commits is missing before its last one`);
    assert.ok(count >= safe[writer]!, `writer ${writer}: ${count} of ${safe[writer]} safe commits are there`);
    // One may have been on its way.
    assert.ok(count <= load.acknowledged[writer]! + 1);
  }
  assert.equal(await again.value("SELECT count(*) FROM bulk WHERE word = md5(n::text)"), "20000");
  assert.equal(await again.value("SHOW work_mem"), "7MB");
  const before = await found.startCompute("before");
  assert.equal(await before.value("SELECT count(*) FROM commits"), "0");
  await again.query("INSERT INTO commits VALUES (99, 1, 'after')");
  await until("the new host's commits are in the store as well", async () => {
    return await remoteConsistent(found) >= await commitEnd(found);
  });
  await before.stop();
  await leaveAndComeBack(found, again);
}

/** Deleted tenants are looked for once a second. */
const UPLOAD_ROUNDS_MS = 2_500;

/**
 * Detaches a tenant of which a branch was deleted, and attaches it again. A kill meanwhile leaves its attachment
 * without the tenant, and must not make it a deleted one.
 */
async function leaveAndComeBack(env: ZenithEnv, pg: Compute): Promise<void> {
  await env.zenith("branch", "delete", "before", "--yes");
  await pg.stop();
  const attachment = env.paths.pageserver.attachment(pg.tenant);
  const content = readFileSync(attachment);
  await env.zenith("tenant", "detach", pg.tenant);
  writeFileSync(attachment, content);
  await new Promise((resolve) => setTimeout(resolve, UPLOAD_ROUNDS_MS));
  await env.zenith("tenant", "attach", pg.tenant);
  const again = await env.startCompute();
  assert.equal(await again.value("SELECT count(*) FROM commits WHERE writer = 99"), "1");
}
