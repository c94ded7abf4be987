/** What every load on the tortured Postgres has in common: sessions that work until they are lost or told to stop. */
import { systemErrorCode } from "../../src/common/errors.ts";
import type { Connection } from "../harness/connection.ts";
import type { Compute } from "../harness/zenith_env.ts";

/** How an error of a session is to be taken. */
type Outcome = "lost" | "conflict" | "unexpected";

/** Deadlock, serialization failure, lock not available: what sessions do to each other on any server. */
const CONFLICTS = new Set(["40P01", "40001", "55P03"]);
const LOST = new Set([
  "CONNECTION_CLOSED",
  "CONNECTION_DESTROYED",
  "CONNECTION_ENDED",
  "CONNECT_TIMEOUT",
  "ECONNREFUSED",
  "ECONNRESET",
  "EPIPE",
  // admin_shutdown, crash_shutdown, cannot_connect_now
  "57P01",
  "57P02",
  "57P03",
  // io_error: what was being read when the compute ended.
  "58030",
]);

/** ENOTCONN and ECONNABORTED: what a backend is told whose supervisor, and with it the files, is gone. They have no SQLSTATE. */
const FILES_GONE = "Transport endpoint is not connected|Software caused connection abort";
/** The end of a line in Postgres's log that says so, or that the kernel could not keep what had been written to those files. */
export const LAST_WORDS = new RegExp(`: (?:${FILES_GONE}|Input/output error)$`);
const SAYS_FILES_GONE = new RegExp(`: (?:${FILES_GONE})$`);

function outcomeOf(error: unknown): Outcome {
  const code = systemErrorCode(error);
  if (code !== undefined && CONFLICTS.has(code)) return "conflict";
  if (code !== undefined && LOST.has(code)) return "lost";
  if (!(error instanceof Error)) return "unexpected";
  return error.message === "the session is lost" || SAYS_FILES_GONE.test(error.message)
    ? "lost"
    : "unexpected";
}

/** What was known to be in the database at some moment: a branch of that moment or a later one has at least that. */
export type Floor = unknown;

export interface Load {
  readonly name: string;
  /** Makes its tables. */
  prepare(pg: Compute): Promise<void>;
  /** Works on `pg` until {@link stop}, or until the sessions are lost. */
  start(pg: Compute): void;
  /** Resolves when no session works any more. */
  stop(): Promise<void>;
  /** What has been acknowledged by now. */
  floor(): Floor;
  /** Fails when `pg` lacks something of `floor`, or has anything half or twice. Nobody may be working there. */
  check(pg: Compute, floor: Floor): Promise<void>;
  /** After the last check of what was lost: takes what was found for what there is. */
  settle?(pg: Compute): Promise<void>;
}

export interface LoadEvents {
  /** A session ended although nobody had told it to. Whether that was to be expected, the listener knows. */
  onLost(load: string, error: unknown): void;
  /** Something that may never happen, whoever is killed. */
  onUnexpected(load: string, error: unknown): void;
}

/** Runs `step` in `sessions` sessions, again and again. */
export class Workers {
  readonly #name: string;
  readonly #events: LoadEvents;
  #stopping = false;
  #running: Promise<void>[] = [];

  constructor(name: string, events: LoadEvents) {
    this.#name = name;
    this.#events = events;
  }

  start(
    pg: Compute,
    sessions: number,
    step: (session: Connection, worker: number) => Promise<void>,
    database?: string,
  ): void {
    this.#stopping = false;
    this.#running = Array.from({ length: sessions }, async (_, worker) => {
      let session: Connection | undefined;
      try {
        session = await pg.connect(database === undefined ? {} : { database });
        while (!this.#stopping) await this.#once(session, worker, step);
      } catch (error) {
        if (outcomeOf(error) !== "lost") this.#events.onUnexpected(this.#name, error);
        else if (!this.#stopping) this.#events.onLost(this.#name, error);
      } finally {
        await session?.close();
      }
    });
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    await Promise.all(this.#running);
  }

  async #once(
    session: Connection,
    worker: number,
    step: (session: Connection, worker: number) => Promise<void>,
  ): Promise<void> {
    try {
      await step(session, worker);
    } catch (error) {
      if (outcomeOf(error) !== "conflict") throw error;
      await session.query("ROLLBACK");
    }
  }
}
