import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { nextTurn } from "../../../src/common/event_loop.ts";
import { HeldOnes } from "../../../src/common/held.ts";
import { Random } from "../../harness/random.ts";

const IDLE_MS = 100;

class Thing {
  readonly key: string;
  isOpen = true;
  users = 0;

  constructor(key: string) {
    this.key = key;
  }
}

class Scenario {
  now = 0;
  opened = 0;
  closed = 0;
  failOpening = false;
  /** Awaited in every step that takes time. */
  pause = (): Promise<void> => Promise.resolve();
  readonly open = new Map<string, Thing>();
  readonly held = new HeldOnes<string, Thing>({
    nowMs: () => this.now,
    open: async (key) => {
      await this.pause();
      if (this.failOpening) throw new Error("can't be opened");
      assert.ok(!this.open.has(key), "open once at most");
      const thing = new Thing(key);
      this.open.set(key, thing);
      this.opened++;
      return thing;
    },
    close: async (thing) => {
      assert.equal(thing.users, 0, "nobody uses what is closed");
      thing.isOpen = false;
      await this.pause();
      this.open.delete(thing.key);
      this.closed++;
    },
  });

  async closeIdle(prepare: (thing: Thing) => Promise<boolean> = () => Promise.resolve(true)): Promise<void> {
    await this.held.closeIdle(IDLE_MS, prepare);
  }
}

describe("things that are held", () => {
  test("are opened once for all who ask, and closed when the last has left for some time", async () => {
    const scenario = new Scenario();
    const [first, second] = await Promise.all([scenario.held.hold("a"), scenario.held.hold("a")]);
    assert.equal(first.value, second.value);
    assert.equal(scenario.opened, 1);
    scenario.now = 1000;
    first[Symbol.dispose]();
    first[Symbol.dispose]();
    scenario.now = 2000;
    await scenario.closeIdle();
    assert.equal(scenario.closed, 0, "the second holds it, however often the first has left");
    second[Symbol.dispose]();
    scenario.now += IDLE_MS - 1;
    await scenario.closeIdle();
    assert.equal(scenario.closed, 0);
    scenario.now += 1;
    await scenario.closeIdle();
    assert.equal(scenario.closed, 1);
    assert.deepEqual(scenario.held.opened(), []);
    using third = await scenario.held.hold("a");
    assert.ok(third.value.isOpen && third.value !== first.value);
  });

  test("are not kept by who only looks after them", async () => {
    const scenario = new Scenario();
    (await scenario.held.hold("a"))[Symbol.dispose]();
    scenario.now = IDLE_MS;
    {
      using upkeep = scenario.held.holdIfOpen("a")!;
      await scenario.closeIdle();
      assert.ok(upkeep.value.isOpen, "while it is looked after it stays");
    }
    await scenario.closeIdle();
    assert.equal(scenario.closed, 1);
    assert.equal(scenario.held.holdIfOpen("a"), null);
    // Opened for upkeep alone.
    (await scenario.held.hold("a", false))[Symbol.dispose]();
    await scenario.closeIdle();
    assert.equal(scenario.closed, 2);
  });

  test("stay open when they can't be made ready, or somebody comes meanwhile", async () => {
    const scenario = new Scenario();
    for (const key of ["a", "b", "c"]) (await scenario.held.hold(key))[Symbol.dispose]();
    scenario.now = IDLE_MS;
    const closing = scenario.closeIdle(async ({ key }) => {
      if (key === "a") throw new Error("disk full");
      if (key === "b") (await scenario.held.hold("b"))[Symbol.dispose]();
      return true;
    });
    await assert.rejects(closing, /disk full/);
    assert.deepEqual(scenario.held.opened().map(({ key }) => key), ["a", "b"]);
  });

  test("that could not be opened are tried again", async () => {
    const scenario = new Scenario();
    scenario.failOpening = true;
    await assert.rejects(scenario.held.hold("a"), /can't be opened/);
    assert.equal(scenario.held.peek("a"), undefined);
    scenario.failOpening = false;
    using held = await scenario.held.hold("a");
    assert.ok(held.value.isOpen);
  });

  for (let seed = 1; seed <= 40; seed++) {
    test(`are open while they are used, whatever happens when (seed ${seed})`, async () => {
      const random = new Random(seed);
      const scenario = new Scenario();
      scenario.pause = async () => {
        for (let turns = random.int(4); turns > 0; turns--) await nextTurn();
      };
      const keys = ["a", "b", "c"];
      const use = async (): Promise<void> => {
        using held = await scenario.held.hold(keys[random.int(keys.length)], random.int(3) > 0);
        const thing = held.value;
        thing.users++;
        assert.ok(thing.isOpen);
        await scenario.pause();
        assert.ok(thing.isOpen, "it is not closed in its user's hands");
        thing.users--;
      };
      const look = async (): Promise<void> => {
        using held = scenario.held.holdIfOpen(keys[random.int(keys.length)]);
        await scenario.pause();
        assert.ok(held?.value.isOpen ?? true);
      };
      const close = () => scenario.closeIdle(async () => (await scenario.pause(), random.int(5) > 0));
      const running: Promise<void>[] = [];
      for (let step = 0; step < 300; step++) {
        scenario.now += random.int(IDLE_MS);
        running.push(random.int(3) === 0 ? close() : random.int(4) === 0 ? look() : use());
        if (random.int(2) === 0) await nextTurn();
      }
      await Promise.all(running);
      await scenario.held.settled();
      scenario.now += IDLE_MS;
      await scenario.closeIdle();
      assert.equal(scenario.open.size, 0);
      assert.equal(scenario.opened, scenario.closed);
      assert.ok(scenario.closed > 3, "some were closed in between");
    });
  }
});
