/** The errors of redo. */
import { type ErrorOptionsExtra, ZenithError } from "../../../common/errors.ts";

/**
 * A record can't be applied to a page: one of them is damaged, or they don't belong together. Redo
 * routines say what they found; the dispatcher prefixes resource manager, record type, LSN and
 * block.
 */
export class RedoError extends ZenithError {
  override name = "RedoError";

  constructor(message: string, options: ErrorOptionsExtra = {}) {
    super("corrupt_data", message, options);
  }
}

/** Redo does not know the record's type, so the page that the record changed can't be served. */
export class RedoNotImplementedError extends ZenithError {
  override name = "RedoNotImplementedError";

  constructor(message: string) {
    super("not_implemented", message);
  }
}
