/**
 * Which page server has which tenant, when several share an object store. This decides who tries to
 * take a tenant; the generations in the object store decide who has it (docs/decisions/0080).
 */
import type { TenantId } from "../common/id.ts";

/** Where a tenant is to be. */
export interface Place {
  /** The address by which others reach the page server. */
  readonly server: string;
  /** Who has it still, and is to pass it on first. Null when nobody is waited for. */
  readonly from: string | null;
  /** The generation in which the server has it. Null until it has. */
  readonly generation: number | null;
}

/** A place as it was read. It changes with every write. */
export interface KnownPlace extends Place {
  readonly revision: string;
}

/** What was known at one moment. */
export interface PlacesNow {
  /** The page servers whose leases have not ended. */
  readonly alive: ReadonlySet<string>;
  readonly tenants: ReadonlyMap<TenantId, KnownPlace>;
}

/**
 * What page servers know in common. All methods throw {@link ZenithError} `unavailable` when that
 * can't be reached; a write may have happened then.
 */
export interface Places {
  /** Says that a page server lives for {@link LEASE_S} from now on. Then reads everything. */
  renew(server: string): Promise<PlacesNow>;
  /**
   * Writes a tenant's place, unless somebody else has changed it.
   *
   * @param place null removes it
   * @param known what it is thought to be; undefined for none
   * @param dead a page server that must not live
   * @returns whether it was written
   */
  write(
    tenant: TenantId,
    place: Place | null,
    known: KnownPlace | undefined,
    dead?: string,
  ): Promise<boolean>;
}

/** A page server that has said nothing for so long is taken for dead. */
export const LEASE_S = 4;
