import { type ErrorOptionsExtra, ZenithError } from "../../../common/errors.ts";

/**
 * A record can't be applied to a page: one of them is damaged, or they don't belong together. Redo routines say what
 * they found; the dispatcher puts resource manager, record type, LSN and block in front of it.
 */
export class RedoError extends ZenithError {
  override name = "RedoError";

  constructor(message: string, options: ErrorOptionsExtra = {}) {
    super("corrupt_data", message, options);
  }
}

/** The record's type is one that redo does not know, so the page that it changed can't be served. */
export class RedoNotImplementedError extends ZenithError {
  override name = "RedoNotImplementedError";

  constructor(message: string) {
    super("not_implemented", message);
  }
}
