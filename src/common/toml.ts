/**
 * Reads and writes configuration files: TOML, checked against a valibot schema, always written as a
 * whole.
 */
import { readFileSync } from "node:fs";
import { parse as parseToml, stringify as stringifyToml } from "smol-toml";
import { type BaseIssue, type GenericSchema, type InferOutput, safeParse } from "valibot";
import { errorMessage, ioError, systemErrorCode, ZenithError } from "./errors.ts";
import { replaceTextFile } from "./text_file.ts";

const MEND = "it is a text file, in TOML: mend it with an editor";

/**
 * Reads a configuration file. The schema should be a `strictObject`: a key that nobody reads is a
 * typo.
 *
 * @throws {ZenithError} `not_found` when there is no such file, `invalid_argument` with the file
 *   and the key when it is wrong
 */
export function readTomlFile<const S extends GenericSchema>(path: string, schema: S): InferOutput<S> {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    if (systemErrorCode(error) === "ENOENT") {
      throw new ZenithError("not_found", `${path} does not exist`, { cause: error });
    }
    throw ioError("read", path, error);
  }
  return parseTomlText(text, schema, path);
}

/** Like {@link readTomlFile}, but from text. `path` is for messages. */
export function parseTomlText<const S extends GenericSchema>(
  text: string,
  schema: S,
  path: string,
): InferOutput<S> {
  let value: unknown;
  try {
    value = parseToml(text);
  } catch (error) {
    // smol-toml's further lines draw a picture of the place.
    const [firstLine = ""] = errorMessage(error).split("\n");
    throw new ZenithError("invalid_argument", `${path}: ${firstLine}`, { hint: MEND, cause: error });
  }
  const result = safeParse(schema, value);
  if (!result.success) {
    throw new ZenithError(
      "invalid_argument",
      `${path}: ${result.issues.map(describeIssue).join("; ")}`,
      { hint: MEND },
    );
  }
  return result.output;
}

function describeIssue(issue: BaseIssue<unknown>): string {
  const key = issue.path?.map((item) => String(item.key)).join(".") ?? "";
  if (issue.expected === "never") return `unknown key "${key}"`;
  if (issue.received === "undefined") return `key "${key}" is missing`;
  return `key "${key}": ${issue.message}`;
}

const MODE = 0o644;

/**
 * Replaces a configuration file atomically: readers see the old one or the new one.
 *
 * @throws {ZenithError} `disk_full`, `io`
 */
export function writeTomlFile(path: string, comment: string, value: Record<string, unknown>): void {
  const text = comment.split("\n").map((line) => `# ${line}\n`).join("") + "\n" + stringifyToml(value) + "\n";
  replaceTextFile(path, text, MODE);
}
