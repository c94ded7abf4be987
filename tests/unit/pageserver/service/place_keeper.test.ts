import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { ZenithError } from "../../../../src/common/errors.ts";
import { generateTenantId, type TenantId } from "../../../../src/common/id.ts";
import { PlaceKeeper, rank } from "../../../../src/pageserver/service/place_keeper.ts";
import type { KnownPlace, Place, Places, PlacesNow } from "../../../../src/places/places.ts";
import { sleep } from "../../../../src/common/sleep.ts";
import { NULL_LOGGER } from "../../../../src/process/log.ts";

async function until(_what: string, condition: () => boolean | Promise<boolean>): Promise<void> {
  while (!await condition()) await sleep(10);
}

/** What several page servers share. Leases end when the test says so. */
class SharedPlaces implements Places {
  readonly tenants = new Map<TenantId, KnownPlace>();
  readonly alive = new Set<string>();
  isAway = false;
  #revision = 0;

  renew(server: string): Promise<PlacesNow> {
    if (this.isAway) return Promise.reject(new ZenithError("unavailable", "away"));
    this.alive.add(server);
    return Promise.resolve({ alive: new Set(this.alive), tenants: new Map(this.tenants) });
  }

  write(
    tenant: TenantId,
    place: Place | null,
    known: KnownPlace | undefined,
    dead?: string,
  ): Promise<boolean> {
    if (this.isAway) return Promise.reject(new ZenithError("unavailable", "away"));
    const isRight = this.tenants.get(tenant)?.revision === known?.revision;
    if (!isRight || dead !== undefined && this.alive.has(dead)) return Promise.resolve(false);
    if (place === null) this.tenants.delete(tenant);
    else this.tenants.set(tenant, { ...place, revision: String(++this.#revision) });
    return Promise.resolve(true);
  }
}

/** Generations as the object store gives them out. */
type Store = Map<TenantId, number>;

/** A page server without data. */
class Server {
  readonly keeper: PlaceKeeper;
  readonly has = new Map<TenantId, number>();
  canLeave = true;

  constructor(readonly name: string, places: Places, store: Store) {
    this.keeper = new PlaceKeeper(places, name, {
      here: () => this.has.keys(),
      generation: (tenant) => {
        const generation = this.has.get(tenant);
        return generation === undefined || generation !== store.get(tenant) ? null : generation;
      },
      take: (tenant) => {
        if (!store.has(tenant)) return Promise.reject(new ZenithError("not_found", "no such tenant"));
        const generation = store.get(tenant)! + 1;
        store.set(tenant, generation);
        this.has.set(tenant, generation);
        return Promise.resolve({ generation });
      },
      release: (tenant) => {
        if (!this.canLeave) return Promise.reject(new ZenithError("conflict", "it can't be uploaded"));
        this.has.delete(tenant);
        return Promise.resolve();
      },
    }, NULL_LOGGER);
  }
}

function setting() {
  const places = new SharedPlaces();
  const store: Store = new Map();
  const [a, b] = ["a:1", "b:1"].map((name) => new Server(name, places, store)) as [Server, Server];
  const tenant = generateTenantId();
  store.set(tenant, 1);
  a.has.set(tenant, 1);
  return { places, store, a, b, tenant, stop: () => Promise.all([a.keeper.stop(), b.keeper.stop()]) };
}

describe("page servers that share tenants", () => {
  test("say where their tenants are, and move them", async () => {
    const { places, store, a, b, tenant, stop } = setting();
    a.keeper.start();
    b.keeper.start();
    await until("it has a place", () => places.tenants.get(tenant)?.generation === 1);
    await until("both know", async () => await b.keeper.placeOf(tenant) === "a:1");
    await assert.rejects(b.keeper.move(tenant, "c:1"), { kind: "not_found" });
    await b.keeper.move(tenant, "b:1");
    assert.deepEqual([...a.has], []);
    assert.deepEqual([...b.has], [[tenant, 2]]);
    assert.equal(await b.keeper.placeOf(tenant), "b:1");
    assert.match(a.keeper.elsewhere(tenant)!.message, /b:1/);

    // One that can't leave stays.
    b.canLeave = false;
    await assert.rejects(a.keeper.move(tenant, "a:1"), { kind: "conflict", message: /could not leave b:1/ });
    assert.equal(places.tenants.get(tenant)!.server, "b:1");
    b.canLeave = true;

    // What was put back from an old copy is let go of.
    a.has.set(tenant, 1);
    await until("it is gone", () => !a.has.has(tenant));
    assert.equal(store.get(tenant), 2);

    await assert.rejects(a.keeper.removing(tenant, () => Promise.resolve()), { kind: "unavailable" });
    await b.keeper.removing(tenant, () => Promise.resolve(b.has.delete(tenant)));
    assert.equal(places.tenants.size, 0);
    assert.equal(a.keeper.elsewhere(generateTenantId()), undefined);
    await stop();
  });

  test("take over from one whose lease has ended, and from no other", async () => {
    const { places, a, b, tenant, stop } = setting();
    a.keeper.start();
    b.keeper.start();
    await until("it has a place", () => places.tenants.get(tenant)?.generation === 1);
    await until("both know", async () => await b.keeper.placeOf(tenant) === "a:1");
    places.isAway = true;
    places.alive.delete("a:1");
    assert.equal(await a.keeper.placeOf(tenant), "a:1");
    assert.equal(await b.keeper.placeOf(tenant), "a:1");
    places.alive.add("a:1");
    places.isAway = false;
    await a.keeper.stop();
    places.alive.delete("a:1");
    await until("b has it", () => b.has.get(tenant) === 2);
    await until("it says so", () => places.tenants.get(tenant)?.generation === 2);
    // It comes back.
    a.keeper.start();
    await until("it lets go", () => !a.has.has(tenant));
    assert.equal(await a.keeper.placeOf(tenant), "b:1");
    await stop();
  });

  test("write places anew when those are lost, whoever has the newest generation", async () => {
    const { places, store, a, b, tenant, stop } = setting();
    store.set(tenant, 2);
    b.has.set(tenant, 2);
    a.keeper.start();
    b.keeper.start();
    await until("it is b's", () => places.tenants.get(tenant)?.server === "b:1" && !a.has.has(tenant));
    // A tenant that the store does not have is nowhere.
    store.clear();
    b.has.clear();
    await until("it has no place", () => places.tenants.size === 0);
    await stop();
  });

  test("share out what a dead one had", () => {
    const alive = new Set(["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"]);
    const first = new Map<string, number>();
    for (let i = 0; i < 300; i++) {
      const tenant = generateTenantId();
      const ranks = [...alive].map((server) => rank(tenant, server, alive));
      assert.deepEqual([...ranks].sort(), [0, 1, 2]);
      const heir = [...alive][ranks.indexOf(0)]!;
      first.set(heir, (first.get(heir) ?? 0) + 1);
    }
    for (const count of first.values()) assert.ok(count > 60, `${count} of 300`);
  });
});
