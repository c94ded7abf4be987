import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Lsn } from "../../../src/common/lsn.ts";
import type { Durability } from "../../../src/compute/durability.ts";
import type { CommitProgress } from "../../../src/compute/proposer/commit_progress.ts";
import { stopInOrder, type StoppablePostgres } from "../../../src/compute/orderly_stop.ts";
import type { Conditions } from "../../../src/compute/postgres/conditions.ts";
import { NULL_LOGGER } from "../../../src/process/log.ts";

/** A Postgres and who makes its WAL durable, without either. */
class Fake {
  readonly steps: string[] = [];
  durable = 100;
  written = 200;
  connected = true;
  /** What those who watch know to be written; all of it when undefined. */
  reportedWritten: number | undefined;
  writes = true;
  readonly givenUp = new AbortController();

  postgres(shutDown: (signal: AbortSignal) => void | Promise<void>): StoppablePostgres {
    const { steps } = this;
    return {
      running: true,
      async shutDown(signal) {
        steps.push("shut down");
        await shutDown(signal);
      },
    };
  }

  stop(postgres: StoppablePostgres, startAgain: () => StoppablePostgres = () => postgres): Promise<void> {
    const progress = (): Promise<CommitProgress | null> =>
      Promise.resolve(
        !this.writes ? null : {
          durableLsn: this.durable as Lsn,
          writtenLsn: (this.reportedWritten ?? this.written) as Lsn,
          waits: this.durable < this.written,
          connected: this.connected,
          who: "the page server",
          obstacles: [],
        },
      );
    const durableLsn = (): Promise<Lsn | null> => Promise.resolve(this.writes ? this.durable as Lsn : null);
    const durability = { progress, durableLsn, postgresEnded: () => {} };
    return stopInOrder({
      postgres,
      startAgain: () => {
        this.steps.push("start again");
        return Promise.resolve(startAgain());
      },
      endOfWal: () => Promise.resolve(this.written as Lsn),
      durability: durability as unknown as Durability,
      conditions: { set: () => {} } as unknown as Conditions,
      log: NULL_LOGGER,
      givenUp: this.givenUp.signal,
    });
  }
}

describe("an orderly stop", () => {
  test("ends when Postgres has, and all is durable", async () => {
    const fake = new Fake();
    await fake.stop(fake.postgres(() => void (fake.durable = 200)));
    assert.deepEqual(fake.steps, ["shut down"]);
  });

  test("does not shut down before somebody is there to take what waits", async () => {
    const fake = new Fake();
    fake.connected = false;
    const stopping = fake.stop(fake.postgres(() => void (fake.durable = 200)));
    await new Promise((resolve) => setTimeout(resolve, 10));
    assert.deepEqual(fake.steps, []);
    fake.connected = true;
    await stopping;
    assert.deepEqual(fake.steps, ["shut down"]);
  });

  test("needs nobody when nothing waits", async () => {
    const fake = new Fake();
    fake.connected = false;
    fake.durable = fake.written;
    await fake.stop(fake.postgres(() => {}));
    assert.deepEqual(fake.steps, ["shut down"]);
  });

  test("starts Postgres again when it has ended with WAL that nobody has", async () => {
    const fake = new Fake();
    // Who took the WAL is lost while Postgres shuts down.
    const second = fake.postgres(() => void (fake.durable = 200));
    await fake.stop(fake.postgres(() => {}), () => second);
    assert.deepEqual(fake.steps, ["shut down", "start again", "shut down"]);
  });

  test("does not end Postgres again before somebody has come back for what it has", async () => {
    const fake = new Fake();
    // Nobody knows of what it wrote at its end: as far as anybody can tell, nothing waits.
    fake.durable = 150;
    const reported = 150;
    const second = fake.postgres(() => void (fake.durable = fake.written));
    const first = fake.postgres(() => void (fake.connected = false));
    fake.reportedWritten = reported;
    const stopping = fake.stop(first, () => second);
    await new Promise((resolve) => setTimeout(resolve, 10));
    assert.deepEqual(fake.steps, ["shut down", "start again"]);
    fake.connected = true;
    await stopping;
    assert.deepEqual(fake.steps, ["shut down", "start again", "shut down"]);
  });

  test("of what writes nothing ends with Postgres, whatever its last checkpoint is", async () => {
    const fake = new Fake();
    fake.writes = false;
    await fake.stop(fake.postgres(() => {}));
    assert.deepEqual(fake.steps, ["shut down"]);
  });

  test("is over at once when it is given up", async () => {
    const fake = new Fake();
    const asked = Promise.withResolvers<void>();
    const never = fake.postgres((signal) => {
      asked.resolve();
      return new Promise((resolve) => signal.addEventListener("abort", () => resolve()));
    });
    const stopping = fake.stop(never);
    await asked.promise;
    fake.givenUp.abort();
    await stopping;
    assert.deepEqual(fake.steps, ["shut down"]);
  });
});
