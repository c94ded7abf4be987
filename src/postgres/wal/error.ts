/** The error for invalid WAL. */
import { formatLsn, type Lsn } from "../../common/lsn.ts";
import { ZenithError } from "../../common/errors.ts";

/**
 * WAL that PostgreSQL would not write: a failed checksum, a broken chain, a length out of bounds.
 */
export class WalError extends ZenithError {
  override name = "WalError";
  /** The record or page that is wrong. */
  readonly lsn: Lsn;

  constructor(lsn: number, problem: string) {
    super("corrupt_data", `invalid WAL at ${formatLsn(lsn as Lsn)}: ${problem}`);
    this.lsn = lsn as Lsn;
  }
}
