import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { checkTokenAddress, Guard } from "../../../src/protocol/guard.ts";
import type { Principal } from "../../../src/auth/claims.ts";
import type { Verifier } from "../../../src/auth/verifier.ts";
import { generateTenantId, generateTimelineId } from "../../../src/common/id.ts";
import type { Named } from "../../../src/protocol/operation.ts";
import type { Session } from "../../../src/pgwire/session.ts";

const tenant = generateTenantId();
const timeline = generateTimelineId();

/** A guard for which every token is still good: what a token may is the question here. */
const guard = Guard.withTokens({ problem: () => undefined } as unknown as Verifier);

function as(grant: Partial<Principal>): Session {
  return { identity: { jti: "one", sub: "test", iat: 0, kid: "k", ...grant } } as unknown as Session;
}

describe("a token's addresses", () => {
  const compute = as({
    scope: "compute",
    tenant,
    timeline,
    addresses: ["10.0.0.7:5432", "10.1.0.0/16", "fd00::/8"],
    safekeepers: ["[::1]:5454"],
  });
  const one = { tenant, timelines: [timeline] };
  const may = (named: Named) => guard.allows(compute, "compute", { ...one, ...named });

  test("are whole addresses, or networks of numbers", () => {
    assert.ok(may({ addresses: [{ host: "10.0.0.7", port: 5432 }] }));
    assert.ok(may({ addresses: [{ host: "10.1.200.3", port: 1 }] }));
    assert.ok(may({ addresses: [{ host: "fd00::1", port: 1 }] }));
    assert.ok(may({ addresses: [{ host: "::1", port: 5454 }] }));
    for (const host of ["10.0.0.7", "10.2.0.0", "fe00::1", "10.1.example.org", "::ffff:10.2.0.1"]) {
      assert.ok(!may({ addresses: [{ host, port: 5433 }] }), host);
    }
    assert.ok(!may({ addresses: [{ host: "10.1.0.1", port: 1 }, { host: "10.2.0.1", port: 1 }] }));
  });

  test("of safekeepers are whole ones, which others will trust with their tokens", () => {
    assert.ok(may({ safekeepers: [{ host: "::1", port: 5454 }] }));
    assert.ok(may({ safekeepers: [] }));
    for (const host of ["10.1.0.1", "10.0.0.7"]) assert.ok(!may({ safekeepers: [{ host, port: 5432 }] }));
  });

  test("are checked before they get into one", () => {
    for (const good of ["db1:5432", "10.0.0.0/24", "fd00::/8", "[::1]:5454"]) checkTokenAddress(good);
    for (const bad of ["", "db1", "10.0.0.0/33", "db1/24", "a b:1", "10.0.0.0/"]) {
      assert.throws(() => checkTokenAddress(bad), /is no address/, bad);
    }
  });
});

describe("a guard", () => {
  test("lets a token of one timeline name no other beside it", () => {
    const compute = as({ scope: "compute", tenant, timeline });
    assert.ok(guard.allows(compute, "read", { tenant, timelines: [timeline, timeline] }));
    assert.ok(!guard.allows(compute, "read", { tenant, timelines: [timeline, generateTimelineId()] }));
    assert.ok(!guard.allows(compute, "read", { tenant, timelines: [] }));
  });

  test("lets a token for masked branches do only what is known to be about them", async () => {
    const ann = as({ scope: "tenant", tenant, masked: true });
    const named = { tenant, timelines: [timeline] };
    for (const access of ["tenant", "read", "compute", "send", "wal", "confirm"] as const) {
      assert.ok(!guard.allows(ann, access, named), access);
      assert.ok(guard.allows(ann, access, { ...named, isMasked: true }), access);
    }
    assert.ok(!guard.allows(ann, "admin", { ...named, isMasked: true }));
    assert.throws(() => guard.check(ann, "start_wal_push", "compute", null), /is for masked branches alone/);
    const answers: boolean[] = [];
    const ask = async (client: Session, answer: boolean, of: Named = named) => {
      await guard.checkAll(client, "x", "read", of, () => {
        answers.push(answer);
        return Promise.resolve(answer);
      });
    };
    await ask(ann, true);
    await assert.rejects(ask(ann, false), /is for masked branches alone/);
    // Of another tenant nobody looks whether there is such a branch, and others are not asked at all.
    await assert.rejects(ask(ann, true, { ...named, tenant: generateTenantId() }), /is for tenant/);
    await ask(as({ scope: "tenant", tenant }), false);
    assert.deepEqual(answers, [true, false]);
  });

  test("says which token may not do what", () => {
    const reader = as({ scope: "read", tenant });
    assert.throws(
      () => guard.check(reader, "tenant_delete", "admin", { tenant }),
      /^ZenithError: token one, of scope read, is not for tenant_delete$/,
    );
    const other = generateTenantId();
    assert.throws(
      () => guard.check(reader, "branch_list", "read", { tenant: other }),
      new RegExp(`is for tenant ${tenant}, not ${other}`),
    );
  });

  test("that is open lets everybody do everything", async () => {
    const open = Guard.open();
    const identity = await open.negotiation.authenticate(undefined as never);
    assert.ok(open.allows({ identity } as Session, "admin", {}));
    assert.equal(open.asksForTokens, false);
  });
});
