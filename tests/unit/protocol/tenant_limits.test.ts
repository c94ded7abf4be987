import assert from "node:assert/strict";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, test } from "node:test";
import { generateTenantId } from "../../../src/common/id.ts";
import { LimitsPaths } from "../../../src/common/paths.ts";
import type { Session } from "../../../src/pgwire/session.ts";
import { NULL_LOGGER } from "../../../src/process/log.ts";
import { TenantLimits } from "../../../src/protocol/tenant_limits.ts";
import { WalRate } from "../../../src/protocol/wal_rate.ts";

const tenant = generateTenantId();
const other = generateTenantId();
let paths: LimitsPaths;

beforeEach(() => {
  paths = new LimitsPaths(join(mkdtempSync(join(tmpdir(), "zenith-limits-")), "limits"));
});
afterEach(() => rmSync(join(paths.dir, ".."), { recursive: true, force: true }));

const sessionOf = (owner: string | undefined) => ({ identity: { tenant: owner } }) as unknown as Session;

describe("a tenant's limits", () => {
  test("are none, unless a file says so; its own come before those for all", () => {
    assert.equal(new TenantLimits(paths).limit(tenant, "branches"), null);
    mkdirSync(paths.dir);
    writeFileSync(paths.defaults, "branches = 5\nconnections = 9\n");
    const limits = new TenantLimits(paths);
    limits.change(tenant, { branches: 2, connections: "none" });
    for (const now of [limits, new TenantLimits(paths)]) {
      assert.equal(now.limit(tenant, "branches"), 2);
      assert.equal(now.limit(tenant, "connections"), null);
      assert.equal(now.limit(other, "branches"), 5);
    }
    limits.change(tenant, { branches: "default", connections: "default" });
    assert.equal(limits.limit(tenant, "branches"), 5);
    assert.ok(!existsSync(paths.of(tenant)), "a file that says nothing goes");
  });

  test("that can't be read are named", () => {
    mkdirSync(paths.dir);
    writeFileSync(paths.of(tenant), "branchs = 5\n");
    assert.throws(() => new TenantLimits(paths).limit(tenant, "branches"), /\.toml: unknown key "branchs"/);
    writeFileSync(paths.defaults, "branches = -1\n");
    assert.throws(() => new TenantLimits(paths), /default\.toml: key "branches"/);
  });

  test("refuse what is one too many, say what to do, and don't touch others", () => {
    const limits = new TenantLimits(paths, undefined, { branches: () => 3 });
    limits.change(tenant, { connections: 2, requests: 1, branches: 3 });
    const [first, second, third] = [sessionOf(tenant), sessionOf(tenant), sessionOf(tenant)];
    limits.admit(first);
    limits.admit(second);
    const why = {
      message: new RegExp(`tenant ${tenant} may have no more connections: it has 2, its limit is 2`),
      hint: /--connections <n>/,
    };
    assert.throws(() => limits.admit(third), why);
    limits.leave(third);
    assert.equal(limits.state(tenant).connections.used, 2, "one that was refused is not counted down");
    limits.admit(sessionOf(other));
    limits.admit(sessionOf(undefined));
    limits.leave(first);
    limits.admit(third);

    {
      using _running = limits.begin(tenant);
      assert.throws(() => limits.begin(tenant), /no more requests in flight: it has 1, its limit is 1/);
      using _others = limits.begin(other);
    }
    using _again = limits.begin(tenant);
    assert.throws(() => limits.assertRoom(tenant, "branches", 1), {
      kind: "limit_exceeded",
      message: new RegExp(`tenant ${tenant} may have no more branches: it has 3, its limit is 3`),
    });
    limits.assertRoom(other, "branches", 1);
  });

  test("slow the WAL down of a tenant that writes too fast, or whose disk is used up", () => {
    let bytes = 0;
    const limits = new TenantLimits(paths, undefined, { bytes: () => bytes });
    assert.equal(limits.walTaken(tenant, 1 << 30, 0), 0);
    limits.change(tenant, { wal_bytes_per_s: 1_000_000, bytes: 5_000 });
    assert.equal(limits.walTaken(tenant, 1_000_000, 1_000), 0);
    assert.deepEqual(limits.heldBack(1_000), []);
    assert.equal(limits.walTaken(tenant, 100_000, 1_000), 100);
    assert.deepEqual(limits.heldBack(1_050), [
      { tenant_id: tenant, by: "wal_bytes_per_s", limit: 1_000_000 },
    ]);
    assert.equal(limits.walTaken(other, 1 << 30, 1_000), 0);
    bytes = 5_001;
    assert.equal(limits.walTaken(tenant, 1 << 20, 10_000), 1_000);
    assert.deepEqual(limits.heldBack(20_000), [{ tenant_id: tenant, by: "bytes", limit: 5_000 }]);
    assert.deepEqual(limits.heldBack(21_001), [], "it has not been slowed down for a while");
    limits.walTaken(tenant, 1 << 20, 30_000);
    limits.change(tenant, { bytes: "default" });
    assert.deepEqual(limits.heldBack(30_001), []);
  });

  test("are in the log once a minute while they slow somebody down, however often somebody asks", () => {
    let lines = 0;
    const limits = new TenantLimits(paths, { ...NULL_LOGGER, warn: () => void lines++ });
    limits.change(tenant, { wal_bytes_per_s: 1_000 });
    for (const [nowMs, logged] of [[0, 1], [20_000, 1], [40_000, 1], [60_000, 2]] as const) {
      assert.ok(limits.walTaken(tenant, 1 << 20, nowMs) > 0);
      assert.equal(lines, logged, `at ${nowMs} ms`);
      assert.deepEqual(limits.heldBack(nowMs + 10_000_000), []);
    }
  });
});

test("a rate lets a second's worth through at once, and then no more than it says", () => {
  const rate = new WalRate();
  let nowMs = 0;
  let taken = 0;
  while (nowMs < 60_000) {
    taken += 8_192;
    nowMs += rate.take(8_192, 100_000, nowMs);
  }
  assert.ok(Math.abs(taken - 61 * 100_000) < 10_000, String(taken));
  assert.equal(rate.take(1 << 30, null, nowMs), 0);
});
