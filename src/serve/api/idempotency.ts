/**
 * `Idempotency-Key`: a request that was sent twice is done once, and both get the answer of the
 * first.
 */
import { createHash } from "node:crypto";
import { HttpError } from "../http/problem.ts";
import type { HttpResponse } from "../http/request.ts";
import type { State } from "../state/state.ts";

const KEEP_MS = 24 * 3_600_000;
const KEY = /^[\x21-\x7e]{1,255}$/;

export class Idempotency {
  readonly #state: State;

  constructor(state: State) {
    this.#state = state;
    // Their process is gone, and nobody knows the answer. Asking again finds out.
    this.#state.run("DELETE FROM idempotency WHERE status IS NULL");
  }

  /**
   * @param caller whose key it is
   * @param request all that makes the request what it is
   * @throws {HttpError} `400` for what is no key; `409` while the first one runs; `422` when it was
   *   another request's
   */
  async once(
    caller: string,
    key: string,
    request: string,
    work: () => Promise<HttpResponse>,
  ): Promise<HttpResponse> {
    if (!KEY.test(key)) {
      throw new HttpError(400, "invalid_argument", "Idempotency-Key: expected 1 to 255 characters");
    }
    const hash = createHash("sha256").update(request).digest("hex");
    this.#state.run(
      "DELETE FROM idempotency WHERE created_at < ?",
      new Date(Date.now() - KEEP_MS).toISOString(),
    );
    const isFirst = this.#state.run(
      "INSERT OR IGNORE INTO idempotency (caller, key, request, created_at) VALUES (?, ?, ?, ?)",
      caller,
      key,
      hash,
      new Date().toISOString(),
    ) === 1;
    if (!isFirst) return this.#again(caller, key, hash);
    try {
      const response = await work();
      this.#state.run(
        "UPDATE idempotency SET status = ?, body = ? WHERE caller = ? AND key = ?",
        response.status,
        JSON.stringify(response.body ?? null),
        caller,
        key,
      );
      return response;
    } catch (error) {
      // What has failed may be tried again.
      this.#state.run("DELETE FROM idempotency WHERE caller = ? AND key = ?", caller, key);
      throw error;
    }
  }

  #again(caller: string, key: string, hash: string): HttpResponse {
    const row = this.#state.row("SELECT * FROM idempotency WHERE caller = ? AND key = ?", caller, key);
    if (row?.["request"] !== hash) {
      throw new HttpError(422, "invalid_argument", "this Idempotency-Key was another request's");
    }
    if (row["status"] === null) {
      throw new HttpError(409, "conflict", "the first request with this key still runs");
    }
    const body = JSON.parse(String(row["body"])) as unknown;
    return {
      status: Number(row["status"]),
      ...(body === null ? {} : { body }),
      headers: { "idempotent-replayed": "true" },
    };
  }
}
