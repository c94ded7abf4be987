import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { ZenithError } from "../../../src/common/errors.ts";
import { parseTenantId, parseTimelineId } from "../../../src/common/id.ts";
import { type Logger, NULL_LOGGER } from "../../../src/process/log.ts";
import { type Damage, Pace, Scrub, type ScrubItem } from "../../../src/process/scrub.ts";

const TENANT = parseTenantId("a".repeat(32));
const HINT = "mend it";

/** A timeline of some bytes, and what is said of it at their end. */
class Item implements ScrubItem {
  readonly tenantId = TENANT;
  readonly timelineId;
  damages: Damage[] = [];
  error: unknown = null;
  isThere = true;
  checks = 0;
  onPiece = (): void => {};

  constructor(digit: string) {
    this.timelineId = parseTimelineId(digit.repeat(32));
  }

  async *check(): AsyncGenerator<number, readonly Damage[]> {
    this.checks++;
    for (let i = 0; i < 3; i++) {
      yield 10;
      this.onPiece();
    }
    if (this.error !== null) throw this.error;
    return this.damages;
  }

  exists(): boolean {
    return this.isThere;
  }
}

function scrubOf(items: () => Iterable<ScrubItem>, logger: Logger = NULL_LOGGER): Scrub {
  return new Scrub({ items, logger, hint: HINT, bytesPerS: 1 << 30, pauseMs: 1 });
}

const broken = (what: string): Damage => ({ what, hint: HINT });

describe("the pace of a scrub", () => {
  test("lets so many bytes per second through, however small the pieces", async () => {
    for (const piece of [1000, 100_000]) {
      let now = 5000;
      const wait = (ms: number) => Promise.resolve(void (now += ms));
      const pace = new Pace(1_000_000, new AbortController().signal, () => now, wait);
      for (let done = 0; done < 10_000_000; done += piece) {
        await pace.spend(piece);
        // Reading takes time too.
        now += 0.1;
      }
      assert.ok(now - 5000 >= 9800 && now - 5000 <= 10_200, `${now - 5000} ms`);
    }
  });

  test("makes up for little of the time in which nothing was read", async () => {
    let now = 0;
    let waited = 0;
    const wait = (ms: number) => Promise.resolve(void (now += ms, waited += ms));
    const pace = new Pace(1000, new AbortController().signal, () => now, wait);
    now = 3_600_000;
    for (let i = 0; i < 10; i++) await pace.spend(1000);
    assert.equal(waited, 9900);
  });
});

describe("a scrub", () => {
  test("tells of damage until a pass finds it sound, and logs it once", async () => {
    const item = new Item("1");
    const logged: string[] = [];
    const logger: Logger = { ...NULL_LOGGER, error: (message) => void logged.push(message) };
    const scrub = scrubOf(() => [item, new Item("2")], logger);
    assert.equal(scrub.lastPassMs, null);
    item.damages = [broken("one bit"), broken("another")];
    await scrub.pass();
    await scrub.pass();
    assert.deepEqual(scrub.found.map(({ timelineId, damage }) => [timelineId, damage.what]), [
      [item.timelineId, "one bit"],
      [item.timelineId, "another"],
    ]);
    assert.deepEqual(logged, ["damaged: one bit", "damaged: another"]);
    assert.ok(scrub.lastPassMs! > 0);
    item.damages = [];
    await scrub.pass();
    assert.deepEqual(scrub.found, []);
  });

  test("takes what can't be read for damage, but not what is closed, busy or deleted meanwhile", async () => {
    const [unreadable, closed, deleted] = [new Item("1"), new Item("2"), new Item("3")];
    unreadable.error = new ZenithError("io", "bad sector");
    closed.error = new ZenithError("unavailable", "closing");
    deleted.error = new ZenithError("io", "no such file");
    deleted.onPiece = () => deleted.isThere = false;
    const scrub = scrubOf(() => [unreadable, closed, deleted]);
    await scrub.pass();
    assert.deepEqual(scrub.found.map(({ damage }) => damage), [broken("bad sector")]);
  });

  test("forgets what it knew of a timeline that is gone", async () => {
    const item = new Item("1");
    item.damages = [broken("one bit")];
    let items = [item];
    const scrub = scrubOf(() => items);
    await scrub.pass();
    assert.equal(scrub.found.length, 1);
    items = [];
    await scrub.pass();
    assert.deepEqual(scrub.found, []);
  });

  test("goes on after a pass that failed, and ends in the middle of one", async () => {
    const item = new Item("1");
    let passes = 0;
    const warned = Promise.withResolvers<string>();
    const logger: Logger = { ...NULL_LOGGER, warn: (message) => warned.resolve(message) };
    const scrub = scrubOf(() => {
      if (passes++ === 0) throw new Error("the disk is away");
      return [item];
    }, logger);
    const begun = Promise.withResolvers<void>();
    item.onPiece = () => begun.resolve();
    item.damages = [broken("not to be told: the check was broken off")];
    scrub.start();
    assert.match(await warned.promise, /could not check data at rest: the disk is away/);
    await begun.promise;
    await scrub.stop();
    assert.equal(item.checks, 1);
    assert.deepEqual(scrub.found, []);
  });
});
