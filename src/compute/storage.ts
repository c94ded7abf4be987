/** How a compute gets its relation files. */
import { ZenithError } from "../common/errors.ts";
import { whyNotLazy } from "./lazy/fuse/mount.ts";

/**
 * How a compute gets its relation files. `eager`: all at its start. `lazy`: page by page, when they
 * are first read. `auto`: lazy where possible.
 */
export const STORAGE_CHOICES = ["auto", "lazy", "eager"] as const;
export const STORAGE_DEFAULT = "auto";
export type StorageChoice = (typeof STORAGE_CHOICES)[number];

/** @throws {ZenithError} `invalid_argument` */
export function parseStorageChoice(text: string): StorageChoice {
  const choice = STORAGE_CHOICES.find((known) => known === text);
  if (choice === undefined) {
    throw new ZenithError("invalid_argument", `"${text}" is no storage: expected auto, lazy or eager`);
  }
  return choice;
}

export interface Storage {
  readonly mode: "lazy" | "eager";
  /** Why `auto` has chosen eager, as a clause. */
  readonly whyNotLazy?: string;
}

/** @throws {ZenithError} `unavailable` when lazy is asked for but not possible */
export function chooseStorage(choice: StorageChoice): Storage {
  if (choice === "eager") return { mode: "eager" };
  const why = whyNotLazy();
  if (why === undefined) return { mode: "lazy" };
  if (choice === "auto") return { mode: "eager", whyNotLazy: why };
  throw new ZenithError("unavailable", `lazy storage is not possible here: ${why}`, {
    hint: "use --storage eager, or auto, which takes what is possible",
  });
}
