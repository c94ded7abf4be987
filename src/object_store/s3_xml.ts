/** The XML of S3: the answers to a listing and to a deletion, and the request of the latter. */
import { ZenithError } from "../common/errors.ts";
import type { ListPage } from "./object_store.ts";

const ENTITIES: Readonly<Record<string, string>> = { lt: "<", gt: ">", amp: "&", quot: '"', apos: "'" };

function unescape(text: string): string {
  return text.replace(/&(?:#x([0-9a-fA-F]+)|#(\d+)|(\w+));/g, (whole, hex, decimal, name) => {
    if (hex !== undefined) return String.fromCodePoint(parseInt(hex, 16));
    if (decimal !== undefined) return String.fromCodePoint(Number(decimal));
    return ENTITIES[name] ?? whole;
  });
}

function escape(text: string): string {
  return text.replace(/[<>&]/g, (character) => `&#${character.codePointAt(0)};`);
}

/** Returns the text of the first element of that name; undefined when there is none. */
function textOf(xml: string, name: string): string | undefined {
  const match = new RegExp(`<${name}>([^<]*)</${name}>`).exec(xml);
  return match === null ? undefined : unescape(match[1]!);
}

function elements(xml: string, name: string): string[] {
  return Array.from(xml.matchAll(new RegExp(`<${name}>([\\s\\S]*?)</${name}>`, "g")), ([, inner]) => inner!);
}

function required(xml: string, name: string): string {
  const text = textOf(xml, name);
  if (text !== undefined) return text;
  throw new ZenithError("protocol", `the object store's listing has an entry without ${name}`);
}

/**
 * Parses the answer to ListObjectsV2.
 *
 * @param prefix of the store, which is removed from all keys
 * @throws {ZenithError} `protocol`
 */
export function parseListing(xml: string, prefix: string): ListPage {
  if (!/<ListBucketResult[\s>]/.test(xml)) {
    throw new ZenithError("protocol", `the object store's listing is none: ${xml.slice(0, 100)}`);
  }
  const objects = elements(xml, "Contents").map((entry) => ({
    key: required(entry, "Key").slice(prefix.length),
    sizeBytes: Number(required(entry, "Size")),
    modifiedMs: Date.parse(required(entry, "LastModified")),
  }));
  const folders = elements(xml, "CommonPrefixes").map((entry) =>
    required(entry, "Prefix").slice(prefix.length)
  );
  const isLast = textOf(xml, "IsTruncated") !== "true";
  return { objects, folders, next: isLast ? null : required(xml, "NextContinuationToken") };
}

/** Formats the body of DeleteObjects. */
export function formatDeletion(keys: readonly string[]): string {
  const objects = keys.map((key) => `<Object><Key>${escape(key)}</Key></Object>`).join("");
  return `<Delete xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Quiet>true</Quiet>${objects}</Delete>`;
}

export interface S3Problem {
  readonly code: string;
  readonly message: string;
}

/** Returns the first error that an answer names; undefined when it names none. */
export function parseProblem(xml: string): S3Problem | undefined {
  const [error] = elements(xml, "Error");
  if (error === undefined) return undefined;
  return { code: textOf(error, "Code") ?? "", message: textOf(error, "Message") ?? "" };
}
