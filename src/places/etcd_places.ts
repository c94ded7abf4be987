/**
 * Places in etcd. `<prefix>servers/<address>` lives as long as the page server's lease;
 * `<prefix>tenants/<id>` says where a tenant is to be. docs/formats/places.md has their content.
 */
import { nullable, number, object, optional, safeParse, string } from "valibot";
import { ZenithError } from "../common/errors.ts";
import { isIdFileName, parseTenantId, type TenantId } from "../common/id.ts";
import { Etcd, type EtcdCompare } from "./etcd.ts";
import type { EtcdLocation } from "./location.ts";
import { type KnownPlace, LEASE_S, type Place, type Places, type PlacesNow } from "./places.ts";

const PlaceSchema = object({
  server: string(),
  from: optional(nullable(string()), null),
  generation: optional(nullable(number()), null),
});

export class EtcdPlaces implements Places {
  readonly #etcd: Etcd;
  readonly #servers: string;
  readonly #tenants: string;
  readonly #prefix: string;
  #lease: string | null = null;

  constructor(location: EtcdLocation) {
    this.#etcd = new Etcd(location);
    this.#prefix = location.prefix;
    this.#servers = `${location.prefix}servers/`;
    this.#tenants = `${location.prefix}tenants/`;
  }

  async renew(server: string): Promise<PlacesNow> {
    if (this.#lease === null || !await this.#etcd.keepAlive(this.#lease)) {
      this.#lease = await this.#etcd.grant(LEASE_S);
      await this.#etcd.put(this.#servers + server, "", this.#lease);
    }
    const found = await this.#read();
    // Somebody has removed the key, or etcd came back from a copy: the next time makes it anew.
    if (!found.alive.has(server)) this.#lease = null;
    return found;
  }

  async write(
    tenant: TenantId,
    place: Place | null,
    known: KnownPlace | undefined,
    dead?: string,
  ): Promise<boolean> {
    const key = this.#tenants + tenant;
    const compare: EtcdCompare[] = [
      known === undefined ? { key, absent: true } : { key, revision: known.revision },
    ];
    if (dead !== undefined) compare.push({ key: this.#servers + dead, absent: true });
    const value = place === null
      ? null
      : JSON.stringify({ server: place.server, from: place.from, generation: place.generation });
    return await this.#etcd.txn(compare, key, value);
  }

  async #read(): Promise<PlacesNow> {
    const alive = new Set<string>();
    const tenants = new Map<TenantId, KnownPlace>();
    for (const { key, value, revision } of await this.#etcd.range(this.#prefix)) {
      if (key.startsWith(this.#servers)) alive.add(key.slice(this.#servers.length));
      const id = key.slice(this.#tenants.length);
      if (!key.startsWith(this.#tenants) || !isIdFileName(id)) continue;
      tenants.set(parseTenantId(id), { ...parsePlace(key, value), revision });
    }
    return { alive, tenants };
  }
}

/** @throws {ZenithError} `corrupt_data` */
function parsePlace(key: string, text: string): Place {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    value = null;
  }
  const parsed = safeParse(PlaceSchema, value);
  if (parsed.success) return parsed.output;
  throw new ZenithError("corrupt_data", `etcd's ${key} is no place of a tenant: ${text}`, {
    hint: "remove the key: the page server that has the tenant writes it anew",
  });
}
