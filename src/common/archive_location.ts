/** Where a WAL archive is: a pgBackRest repository, or a directory of segments. */
import { nullable, object, parse, string } from "valibot";
import { ZenithError } from "./errors.ts";

/** Its passphrase is a secret. */
export interface ArchiveLocation {
  /** Absolute. */
  readonly path: string;
  /** Of a pgBackRest repository that has several; null otherwise. */
  readonly stanza: string | null;
  /** Null when it is not encrypted. */
  readonly passphrase: string | null;
}

const LocationSchema = object({ path: string(), stanza: nullable(string()), passphrase: nullable(string()) });

/** One line of text. */
export function formatArchiveLocation({ path, stanza, passphrase }: ArchiveLocation): string {
  return JSON.stringify({ path, stanza, passphrase });
}

/** @throws {ZenithError} `invalid_argument` */
export function parseArchiveLocation(text: string): ArchiveLocation {
  try {
    const location = parse(LocationSchema, JSON.parse(text));
    if (location.path.startsWith("/")) return location;
  } catch {
    // Reported below.
  }
  throw new ZenithError("invalid_argument", "this names no archive");
}

/** For messages: without the passphrase. */
export function describeArchive({ path, stanza }: ArchiveLocation): string {
  return stanza === null ? path : `${path} (${stanza})`;
}
