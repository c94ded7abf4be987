/** Files with secrets: nobody but their owner may read them. */
import { readFileSync } from "node:fs";
import { replaceTextFile } from "../common/text_file.ts";
import { ioError, systemErrorCode, ZenithError } from "../common/errors.ts";

const MODE = 0o600;

/** A token takes some hundred bytes. */
const TOKEN_MAX_BYTES = 8192;

/** What a JSON web token consists of: three words of base64url. */
const TOKEN = /^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$/;

/** Replaces a file atomically. @throws {ZenithError} `io`, `disk_full` */
export function writePrivateFile(path: string, text: string): void {
  replaceTextFile(path, text, MODE);
}

/**
 * Reads a file that holds a token. Undefined when there is none.
 *
 * @throws {ZenithError} `invalid_argument` when it is something else, `io`
 */
export function readTokenFile(path: string): string | undefined {
  let text: string;
  try {
    text = readFileSync(path, "utf8").trim();
  } catch (error) {
    if (systemErrorCode(error) === "ENOENT") return undefined;
    throw ioError("read", path, error);
  }
  if (text.length > TOKEN_MAX_BYTES || !TOKEN.test(text)) {
    throw new ZenithError("invalid_argument", `${path} is not a token`, {
      hint: 'put a token there that "zenith token create" has printed',
    });
  }
  return text;
}
