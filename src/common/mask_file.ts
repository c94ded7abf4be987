/** A file of SQL that masks a branch, as the command line names it: `[database=]file`. */
import { ZenithError } from "./errors.ts";

/** A file of SQL, and where to run it. */
export interface MaskFile {
  /** Null for the database `postgres`, or any other if there is none. */
  readonly database: string | null;
  readonly file: string;
}

/** @throws {ZenithError} `invalid_argument` */
export function parseMaskFile(text: string): MaskFile {
  const at = text.indexOf("=");
  const database = at <= 0 ? null : text.slice(0, at);
  const file = text.slice(at + 1);
  if (file !== "") return { database, file };
  throw new ZenithError("invalid_argument", `"${text}" names no file: expected [database=]file`);
}

/** Formats what {@link parseMaskFile} parses. */
export function formatMaskFile({ database, file }: MaskFile): string {
  return `${database ?? ""}=${file}`;
}
