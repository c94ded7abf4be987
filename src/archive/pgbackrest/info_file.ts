/**
 * pgBackRest's info files and manifests: sections of `key=value`, each value JSON, and a SHA-1 of
 * all of it. Source: src/info/info.c of pgBackRest.
 */
import { createHash } from "node:crypto";
import { ZenithError } from "../../common/errors.ts";

/** The only format of a repository since pgBackRest 1.0. */
const REPOSITORY_FORMAT = 5;

const OWN_SECTION = "backrest";
const CHECKSUM_KEY = "backrest-checksum";

/** The values of a file, as JSON, by section and key. */
export class InfoFile {
  readonly where: string;
  readonly #sections: ReadonlyMap<string, ReadonlyMap<string, string>>;

  /** @throws {ZenithError} `corrupt_data`; `not_implemented` for another format */
  constructor(text: string, where: string) {
    this.where = where;
    this.#sections = parse(text, where);
    const format = this.value(OWN_SECTION, "backrest-format");
    if (format === REPOSITORY_FORMAT) return;
    throw new ZenithError(
      "not_implemented",
      `${where} has format ${String(format)}, expected ${REPOSITORY_FORMAT}`,
    );
  }

  /** Keys and values of a section, in the file's order. Empty when there is none. */
  *entries(section: string): Generator<[key: string, value: unknown]> {
    for (const [key, json] of this.texts(section)) yield [key, this.#decode(key, json)];
  }

  /** The same, with each value as it is written. */
  texts(section: string): Iterable<readonly [key: string, json: string]> {
    return this.#sections.get(section) ?? [];
  }

  /** Returns undefined when it is not there. */
  value(section: string, key: string): unknown {
    const json = this.#sections.get(section)?.get(key);
    return json === undefined ? undefined : this.#decode(key, json);
  }

  /** A value as it is written. @throws {ZenithError} `corrupt_data` when it is not there */
  json(section: string, key: string): string {
    const json = this.#sections.get(section)?.get(key);
    if (json !== undefined) return json;
    throw new ZenithError("corrupt_data", `${this.where} has no ${key} in [${section}]`);
  }

  #decode(key: string, json: string): unknown {
    try {
      return JSON.parse(json);
    } catch {
      throw new ZenithError("corrupt_data", `${this.where} is damaged: ${key} has no JSON`);
    }
  }
}

function parse(text: string, where: string): Map<string, Map<string, string>> {
  const sections = new Map<string, Map<string, string>>();
  const hash = createHash("sha1").update("{");
  let name = "";
  /** The section that is being hashed. */
  let hashed = "";
  let stated: string | undefined;
  for (const line of text.split("\n")) {
    if (line === "") continue;
    if (line.startsWith("[") && line.endsWith("]")) {
      name = line.slice(1, -1);
      continue;
    }
    // A file's name may have a "=" too.
    const at = line.includes("={") ? line.indexOf("={") : line.indexOf("=");
    if (at < 0 || name === "") throw new ZenithError("corrupt_data", `${where} is damaged: "${line}"`);
    const [key, value] = [line.slice(0, at), line.slice(at + 1)];
    if (name === OWN_SECTION && key === CHECKSUM_KEY) {
      stated = value;
      continue;
    }
    hash.update(name === hashed ? "," : `${hashed === "" ? "" : "},"}"${name}":{`);
    hashed = name;
    hash.update(`${JSON.stringify(key)}:${value}`);
    let section = sections.get(name);
    if (section === undefined) sections.set(name, section = new Map());
    section.set(key, value);
  }
  const found = `"${hash.update("}}").digest("hex")}"`;
  if (found === stated) return sections;
  throw new ZenithError(
    "corrupt_data",
    `${where} is damaged: its checksum is ${found}, it says ${stated ?? "nothing"}`,
  );
}
