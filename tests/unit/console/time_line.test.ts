import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { layOut } from "../../../console/time_line/layout.ts";
import { pan, SPAN_MAX_MS, SPAN_MIN_MS, ticks, timeAt, xOf, zoom } from "../../../console/time_line/scale.ts";

type Branches = Parameters<typeof layOut>[0];
type Branch = Branches[number];

const HOUR = 3_600_000;
const BEGIN = Date.parse("2026-11-30T08:00:00Z");

function branch(name: string, parent: string | null, hour: number): Branch {
  return {
    id: `br-${name}`,
    name,
    timeline_id: `timeline of ${name}`,
    parent_timeline_id: parent === null ? null : `timeline of ${parent}`,
    parent_lsn: null,
    parent_name: parent,
    last_lsn: "0/1",
    created_at: new Date(BEGIN + hour * HOUR).toISOString(),
    expires_at: null,
    protected: false,
    logical_size_bytes: null,
    physical_size_bytes: null,
    compute: { state: "asleep", sessions: 0, host: "", endpoint_id: "", failure: null, suspend_after: null },
  };
}

describe("the lanes of branches", () => {
  test("are a tree: the latest child next to its parent, so that no line crosses another", () => {
    const lanes = layOut(
      [branch("a", "main", 1), branch("main", null, 0), branch("b", "main", 3), branch("a1", "a", 2)],
      new Map(),
    );
    assert.deepEqual(lanes.map(({ branch: { name }, depth, parent }) => [name, depth, parent]), [
      ["main", 0, undefined],
      ["b", 1, 0],
      ["a", 1, 0],
      ["a1", 2, 2],
    ]);
  });

  test("begin at the moment of the parent, and are kept from there or later", () => {
    const made = branch("a", "main", 5);
    const [lane] = layOut(
      [made],
      new Map([[made.id, {
        id: made.id,
        name: "a",
        timeline_id: made.timeline_id,
        begins_at: "2026-11-30T09:00:00Z",
        kept_from: "2026-11-30T08:30:00Z",
        last_commit_at: null,
      }]]),
    );
    assert.deepEqual([lane!.begin, lane!.kept, lane!.lastCommit], [BEGIN + HOUR, BEGIN + HOUR, undefined]);
    assert.equal(lane!.parent, undefined, "its parent has no name");
  });

  test("go back as far as their children, when more is not known", () => {
    const main = branch("main", null, 0);
    const times = {
      id: main.id,
      name: "main",
      timeline_id: main.timeline_id,
      begins_at: null,
      last_commit_at: null,
    };
    const lanes = layOut(
      [main, branch("a", "main", 1)],
      new Map([[main.id, { ...times, kept_from: "2026-11-30T10:00:00Z" }]]),
    );
    assert.deepEqual([lanes[0]!.begin, lanes[0]!.kept], [BEGIN + HOUR, BEGIN + 2 * HOUR]);
  });

  test("are there for a chain of ten thousand", () => {
    const names = Array.from({ length: 10_000 }, (_, i) => `b${i}`);
    const lanes = layOut(names.map((name, i) => branch(name, names[i - 1] ?? null, i)), new Map());
    assert.equal(lanes.length, 10_000);
    assert.equal(lanes.at(-1)!.depth, 9_999);
  });
});

describe("the scale of time", () => {
  const view = { from: BEGIN, to: BEGIN + HOUR };

  test("keeps the moment under the pointer where it is", () => {
    const around = timeAt(view, 800, 200);
    const closer = zoom(view, around, 0.25);
    assert.equal(closer.to - closer.from, HOUR / 4);
    assert.ok(Math.abs(xOf(closer, 800, around) - 200) < 1e-6);
    assert.deepEqual(pan(view, HOUR), { from: view.to, to: view.to + HOUR });
  });

  test("goes from a second to a working life", () => {
    const least = zoom(view, BEGIN, 1e-9);
    assert.equal(least.to - least.from, SPAN_MIN_MS);
    const most = zoom(view, BEGIN, 1e12);
    assert.equal(most.to - most.from, SPAN_MAX_MS);
  });

  test("has ticks in order, at most one in so many pixels, on what a clock or a calendar has", () => {
    const width = 900;
    const apart = 84;
    for (let span = SPAN_MIN_MS; span <= SPAN_MAX_MS; span *= 1.37) {
      const shown = { from: BEGIN - span / 3, to: BEGIN + span };
      const found = ticks(shown, width, apart);
      const inside = found.filter(({ at }) => at >= shown.from && at <= shown.to);
      assert.ok(inside.length >= 1, `no tick in ${span} ms`);
      assert.ok(inside.length <= width / apart + 2, `${inside.length} ticks in ${span} ms`);
      for (let i = 1; i < found.length; i++) {
        const gap = xOf(shown, width, found[i]!.at) - xOf(shown, width, found[i - 1]!.at);
        // A month is not of thirty days, nor a day always of 24 hours.
        assert.ok(
          gap > apart * 0.55,
          `${found[i - 1]!.label} and ${found[i]!.label} are ${gap} pixels apart`,
        );
      }
    }
  });
});
