import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { findProgram } from "../../../src/process/find_program.ts";
import { exposition, type MetricName, METRICS, type Sample } from "../../../src/serve/api/exposition.ts";

const PACKAGING = fileURLToPath(new URL("../../../packaging/", import.meta.url));
const RULES = join(PACKAGING, "prometheus", "zenith.rules.yml");
const DASHBOARD = join(PACKAGING, "grafana", "zenith.json");

const NAMES = Object.keys(METRICS) as MetricName[];
const promtool = findProgram("promtool");
const skip = promtool === undefined ? "there is no promtool here: Debian's package prometheus has it" : false;

function metricsIn(text: string): string[] {
  return [...new Set(text.match(/\bzenith_[a-z0-9_]+/g))].sort();
}

interface Panel {
  readonly title: string;
  readonly id: number;
  readonly type: string;
  readonly targets?: readonly { readonly expr: string }[];
  readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number };
}

const dashboard = JSON.parse(readFileSync(DASHBOARD, "utf8")) as { panels: Panel[] };
const queries = dashboard.panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr));

/** Runs promtool. */
function tool(args: readonly string[], input?: string): { code: number | null; output: string } {
  const { status, stdout, stderr } = spawnSync(promtool!, args, { encoding: "utf8", input });
  return { code: status, output: stdout + stderr };
}

describe("alert rules and the dashboard", () => {
  test("name metrics that there are", () => {
    const known = new Set<string>(NAMES);
    for (const text of [readFileSync(RULES, "utf8"), ...queries]) {
      assert.deepEqual(metricsIn(text).filter((name) => !known.has(name)), []);
    }
    // Whatever is counted can be looked at.
    assert.deepEqual(metricsIn(queries.join("\n")), [...NAMES].sort());
  });

  test("have panels side by side, each with an id of its own", () => {
    const { panels } = dashboard;
    assert.equal(new Set(panels.map(({ id }) => id)).size, panels.length);
    const taken = new Map<string, string>();
    for (const { title, gridPos: { x, y, w, h } } of panels) {
      assert.ok(x + w <= 24, title);
      for (let i = x; i < x + w; i++) {
        for (let j = y; j < y + h; j++) {
          assert.equal(taken.get(`${i} ${j}`), undefined, title);
          taken.set(`${i} ${j}`, title);
        }
      }
    }
  });

  test("are what Prometheus can use, and come when they should", { skip }, () => {
    const rules = tool(["check", "rules", "--lint-fatal", RULES]);
    assert.equal(rules.code, 0, rules.output);
    const tests = tool(["test", "rules", join(PACKAGING, "prometheus", "zenith.test.yml")]);
    assert.equal(tests.code, 0, tests.output);
    // Grafana puts values in place of its own words.
    const dir = mkdtempSync(join(tmpdir(), "zenith-metrics-"));
    try {
      const file = join(dir, "queries.yml");
      const groups = queries.map((expr, i) => ({
        record: `query:${i}`,
        expr: expr.replaceAll("$__rate_interval", "5m").replaceAll("$instance", "a"),
      }));
      writeFileSync(file, JSON.stringify({ groups: [{ name: "queries", rules: groups }] }));
      const checked = tool(["check", "rules", file]);
      assert.equal(checked.code, 0, checked.output);
    } finally {
      rmSync(dir, { recursive: true });
    }
  });
});

describe("what is exposed", () => {
  const sample: readonly Sample[] = [[{ process: 'a "b\\c"\nd' }, 1.5], [{ process: "e" }, 0]];

  test("has a help, a type, and values with labels", () => {
    assert.equal(
      exposition({ zenith_failing: sample, zenith_computes_awake: 3, zenith_up: [] }),
      "# HELP zenith_computes_awake Computes that run because a client has woken them.\n" +
        "# TYPE zenith_computes_awake gauge\n" +
        "zenith_computes_awake 3\n" +
        "# HELP zenith_failing Processes that can't be started again: how many attempts have failed.\n" +
        "# TYPE zenith_failing gauge\n" +
        'zenith_failing{process="a \\"b\\\\c\\"\\nd"} 1.5\n' +
        'zenith_failing{process="e"} 0\n',
    );
  });

  test("is named as Prometheus names things", { skip }, () => {
    const all = exposition(Object.fromEntries(NAMES.map((name) => [name, sample])));
    assert.deepEqual(tool(["check", "metrics"], all), { code: 0, output: "" });
  });
});
