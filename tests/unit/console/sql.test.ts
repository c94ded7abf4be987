import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { sideBySide } from "../../../console/diff/side_by_side.ts";
import { toJson } from "../../../console/format.ts";
import { formatLogLine } from "../../../console/log_line.ts";
import { type Catalog, complete } from "../../../console/sql/complete.ts";
import { readPlan } from "../../../console/sql/plan.ts";
import { unifiedDiff } from "../../../src/common/line_diff.ts";

const table = (schema: string, name: string, ...columns: string[]) => ({
  schema,
  name,
  columns: columns.map((column) => ({ name: column, type: "text" })),
});
const CATALOG: Catalog = [
  table("public", "orders", "id", "customer", "Total"),
  table("public", "order items", "id", "order"),
  table("sales", "regions", "id", "region"),
];

describe("names offered in a statement", () => {
  /** What is offered at the `|`. */
  const offered = (text: string): readonly string[] | undefined =>
    complete(text.replace("|", ""), text.indexOf("|"), CATALOG)?.items.map(({ text }) => text);

  test("are tables where a table belongs, quoted where SQL needs it", () => {
    assert.deepEqual(offered("SELECT * FROM |"), ["orders", '"order items"', "sales.regions"]);
    assert.deepEqual(offered("SELECT * FROM ord|"), ["orders", '"order items"']);
    assert.deepEqual(offered('SELECT * FROM "order i|'), ['"order items"']);
    assert.deepEqual(offered("UPDATE sales.r|"), ["regions"]);
    assert.deepEqual(offered("SELECT 1 FROM orders, reg|"), ["sales.regions"]);
  });

  test("are columns of the tables that the statement names, by alias too", () => {
    assert.deepEqual(offered("SELECT o.| FROM orders o"), ["id", "customer", '"Total"']);
    assert.deepEqual(offered("SELECT o.tot| FROM orders AS o"), ['"Total"']);
    assert.deepEqual(offered("SELECT cus| FROM orders"), ["customer"]);
    assert.deepEqual(offered('SELECT x.| FROM orders JOIN "order items" x ON true'), ["id", '"order"']);
    assert.deepEqual(offered("SELECT reg| FROM sales.regions")!.slice(0, 2), ["region", "sales.regions"]);
  });

  test("are none in strings, comments and numbers, nor what is there already", () => {
    for (
      const text of [
        "SELECT 'ord|",
        "SELECT 1 -- ord|",
        "/* ord|",
        "SELECT $$ord|",
        "SELECT 1|",
        "SELECT 'a''ord|",
      ]
    ) {
      assert.equal(offered(text), undefined, text);
    }
    assert.equal(offered("SELECT customer| FROM orders"), undefined);
    assert.deepEqual(offered("SELECT 'it''s', $$x$$, cus| FROM orders"), ["customer"]);
  });
});

test("a plan says what takes long, and what was misjudged", () => {
  const plan = readPlan(JSON.stringify([{
    Plan: {
      "Node Type": "Nested Loop",
      "Join Type": "Left",
      "Total Cost": 100,
      "Plan Rows": 10,
      "Actual Total Time": 50,
      "Actual Rows": 500,
      "Actual Loops": 1,
      Plans: [
        {
          "Node Type": "Seq Scan",
          "Relation Name": "a",
          Alias: "x",
          "Total Cost": 20,
          "Plan Rows": 10,
          "Actual Total Time": 5,
          "Actual Rows": 10,
          "Actual Loops": 1,
          Filter: "(b > 1)",
        },
        {
          "Node Type": "Index Scan",
          "Index Name": "b_pkey",
          "Relation Name": "b",
          Alias: "b",
          "Total Cost": 8,
          "Plan Rows": 1,
          "Actual Total Time": 4,
          "Actual Rows": 50,
          "Actual Loops": 10,
        },
      ],
    },
    "Planning Time": 0.1,
    "Execution Time": 51,
  }]))!;
  assert.equal(plan.executionMs, 51);
  const { root } = plan;
  assert.equal(root.title, "Nested Loop (Left)");
  assert.equal(root.misjudged, 50);
  assert.equal(root.ownMs, 5);
  const [scan, index] = root.children;
  assert.equal(scan!.title, "Seq Scan on a x");
  assert.deepEqual(scan!.details, [["Filter", "(b > 1)"]]);
  assert.equal(scan!.misjudged, undefined);
  assert.deepEqual([index!.title, index!.actualRows, index!.share], [
    "Index Scan using b_pkey on b",
    500,
    0.8,
  ]);
  assert.equal(readPlan('[{"a": 1}]'), undefined);
  assert.equal(readPlan("Seq Scan on a"), undefined);
});

test("rows as JSON keep digits, NULL and what is JSON already", () => {
  const fields = [["n", 20], ["n", 1700], ["ok", 16], ["doc", 3802], ["t", 25], ["f", 701]].map(
    ([name, dataTypeID]) => ({ name: name as string, dataTypeID: dataTypeID as number }),
  );
  const text = toJson(fields, [["9223372036854775807", "1.50", "t", '{"a": 1}', 'x"y', "NaN"], [
    null,
    null,
    null,
    null,
    null,
    "1e+20",
  ]]);
  assert.ok(text.includes('"n": 9223372036854775807, "n_2": 1.50, "ok": true, "doc": {"a": 1}'));
  const [one, other] = JSON.parse(text);
  assert.deepEqual([one.t, one.f, other.n, other.f], ['x"y', "NaN", null, 1e20]);
  assert.equal(toJson(fields, []), "[]\n");
});

test("a unified diff stands side by side, each line beside what has become of it", () => {
  const before = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k"];
  const after = ["a", "B", "c", "d", "e", "f", "g", "h", "i", "j", "new", "k"];
  const pairs = sideBySide(["--- x", "+++ y", ...unifiedDiff(before, after)]);
  const changed = pairs.filter(({ kind }) => kind === "changed");
  assert.deepEqual(changed, [
    { kind: "changed", left: { number: 2, text: "b" }, right: { number: 2, text: "B" } },
    { kind: "changed", right: { number: 11, text: "new" } },
  ]);
  assert.equal(pairs.filter(({ kind }) => kind === "gap").length, 1);
  assert.deepEqual(pairs.at(-1), {
    kind: "same",
    left: { number: 11, text: "k" },
    right: { number: 12, text: "k" },
  });
});

test("a line of a log shows what a person looks for", () => {
  assert.equal(formatLogLine("2026-11-30 UTC [1] ERROR:  no").level, "problem");
  assert.equal(formatLogLine("2026-11-30 UTC [1] LOG:  ready").level, undefined);
  const json =
    '{"level":"warn","time":"2026-11-30T10:00:00Z","name":"compute","pid":1,"msg":"slow","ms":7,"err":{"message":"no","stack":"…"}}';
  assert.deepEqual(formatLogLine(json), {
    text: '2026-11-30T10:00:00Z  WARN: slow  ms=7  err="no"',
    level: "warning",
  });
  assert.equal(formatLogLine("{ not json").text, "{ not json");
});
