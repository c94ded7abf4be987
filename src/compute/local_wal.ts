/** Asks the local Postgres how far its WAL is. */
import { ZenithError } from "../common/errors.ts";
import { type Lsn, parseLsn } from "../common/lsn.ts";
import type { PgClient } from "../pgwire/client.ts";
import { createPhysicalSlot, identifySystem } from "../pgwire/replication.ts";
import { COMPUTE_NAME } from "../protocol/wal_connection.ts";
import type { LocalPostgres } from "./durability.ts";

export interface WalPosition {
  /** Everything below is on Postgres's own disk. */
  readonly writtenLsn: Lsn;
  /** Everything below has been confirmed to the slot. */
  readonly confirmedLsn: Lsn;
}

/**
 * Asks a walsender how far the local Postgres's WAL is. That needs no database, and no setting of a
 * role or a database changes the answer.
 */
export class LocalWal {
  readonly #local: LocalPostgres;
  readonly #slot: string;
  #client: PgClient | undefined;

  /** @param slot the slot of the party that makes commits durable */
  constructor(local: LocalPostgres, slot: string) {
    this.#local = local;
    this.#slot = slot;
  }

  /** Creates the slot if necessary, so that WAL is kept from now on. */
  async makeSlot(signal: AbortSignal): Promise<void> {
    await createPhysicalSlot(await this.#connected(signal), this.#slot);
  }

  /** @throws {ZenithError} when Postgres does not answer, or has lost the slot */
  async position(signal: AbortSignal): Promise<WalPosition> {
    try {
      const client = await this.#connected(signal);
      const { xlogpos } = await identifySystem(client);
      const { rows } = await client.query(`READ_REPLICATION_SLOT ${this.#slot}`);
      const confirmed = rows[0]?.[1];
      if (!confirmed) {
        throw new ZenithError("not_found", `Postgres has lost the replication slot ${this.#slot}`);
      }
      return { writtenLsn: xlogpos, confirmedLsn: parseLsn(confirmed) };
    } catch (error) {
      this.close();
      throw error;
    }
  }

  close(): void {
    this.#client?.destroy();
    this.#client = undefined;
  }

  async #connected(signal: AbortSignal): Promise<PgClient> {
    if (this.#client !== undefined && !this.#client.closed) return this.#client;
    const options = { applicationName: COMPUTE_NAME, replication: true, signal };
    this.#client = await this.#local.connect(options);
    return this.#client;
  }
}
