import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { type Turn, Turns } from "../../../../src/pageserver/service/turns.ts";

/** A thread of which the test has the clock and the order. */
class Thread {
  nowMs = 0;
  readonly done: string[] = [];
  readonly turns: Turns<string>;
  #round: (() => void) | undefined;

  constructor() {
    this.turns = new Turns<string>({
      now: () => this.nowMs,
      afterOthers: (callback) => {
        assert.equal(this.#round, undefined, "one round is planned at a time");
        this.#round = callback;
      },
    });
  }

  /** Runs the round that is planned. @returns whether there was one */
  round(): boolean {
    const round = this.#round;
    this.#round = undefined;
    round?.();
    return round !== undefined;
  }

  /** A connection that has asked for `pieces` pieces of work, each of which takes `ms`. */
  ask(turn: Turn, name: string, pieces: number, ms: number): void {
    for (let left = pieces; left > 0; left--) {
      const began = turn.begin();
      if (began < 0) {
        turn.wait(() => this.ask(turn, name, left, ms));
        return;
      }
      this.nowMs += ms;
      this.done.push(name);
      turn.end(began);
    }
  }
}

const count = (list: readonly string[], name: string) => list.filter((entry) => entry === name).length;

describe("turns", () => {
  test("let a tenant that is alone work on, with a look for others now and then", () => {
    const thread = new Thread();
    using a = thread.turns.join("a");
    thread.ask(a, "a", 1_000, 0.01);
    let rounds = 0;
    while (thread.round()) rounds++;
    assert.equal(count(thread.done, "a"), 1_000);
    assert.ok(rounds >= 4 && rounds <= 6, String(rounds));
  });

  test("give another tenant its turn after one slice, over however many connections the first one asks", () => {
    for (const connections of [1, 8, 64]) {
      const thread = new Thread();
      const flood = Array.from({ length: connections }, () => thread.turns.join("a"));
      using b = thread.turns.join("b");
      thread.ask(b, "b", 1, 0.01);
      flood.forEach((turn) => thread.ask(turn, "a", 10_000, 0.01));
      const waits: number[] = [];
      for (let i = 0; i < 50; i++) {
        thread.done.length = 0;
        thread.ask(b, "b", 1, 0.01);
        while (!thread.done.includes("b")) assert.ok(thread.round());
        waits.push(count(thread.done, "a"));
        thread.round();
        waits.push(count(thread.done, "a"));
      }
      // A slice is 0.1 ms: ten pieces, and one that began within it.
      assert.ok(Math.max(...waits) <= 11, `${connections} connections: ${Math.max(...waits)}`);
    }
  });

  test("share evenly among tenants that all ask for much", () => {
    const thread = new Thread();
    const names = ["a", "b", "c"];
    const turns = names.map((name) => thread.turns.join(name));
    using more = thread.turns.join("a");
    names.forEach((name, i) => thread.ask(turns[i]!, name, 10_000, 0.02));
    thread.ask(more, "a", 10_000, 0.02);
    thread.done.length = 0;
    for (let i = 0; i < 100; i++) thread.round();
    const shares = names.map((name) => count(thread.done, name));
    assert.ok(Math.max(...shares) - Math.min(...shares) <= 6, shares.join());
  });

  test("come to every connection of a tenant", () => {
    const thread = new Thread();
    using b = thread.turns.join("b");
    thread.ask(b, "b", 1, 0.01);
    const own = ["a1", "a2", "a3"].map((name) => ({ name, turn: thread.turns.join("a") }));
    for (const { name, turn } of own) thread.ask(turn, name, 10_000, 0.03);
    for (let i = 0; i < 9; i++) thread.round();
    for (const { name } of own) assert.ok(count(thread.done, name) >= 6, name);
  });

  test("let go whoever waits when a tenant's last connection ends", () => {
    const thread = new Thread();
    using b = thread.turns.join("b");
    thread.ask(b, "b", 1, 0.01);
    {
      using a = thread.turns.join("a");
      thread.ask(a, "a", 100, 0.05);
      assert.ok(count(thread.done, "a") < 100);
    }
    assert.equal(count(thread.done, "a"), 100);
  });

  test("make headway even when one piece is longer than a slice", () => {
    const thread = new Thread();
    using a = thread.turns.join("a");
    using b = thread.turns.join("b");
    thread.ask(b, "b", 5, 7);
    thread.ask(a, "a", 5, 7);
    for (let i = 0; i < 5; i++) thread.round();
    assert.deepEqual([count(thread.done, "a"), count(thread.done, "b")], [5, 5]);
  });
});
