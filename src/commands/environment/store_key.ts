/** The key file of an object store, as commands take it. */
import { resolve } from "node:path";
import { readKeyFile, readOrMakeKeyFile } from "../../object_store/key_file.ts";
import { type CommandOption, optionText, type OptionValues } from "../cli/command.ts";

export const KEY_FILE_OPTION: CommandOption = {
  flags: "--key-file <file>",
  description: "Encrypt what is uploaded with the key in this file, which is made if it isn't there",
};

export interface ChosenKeyFile {
  /** Absolute. */
  readonly path: string;
  /** What a person should know of it. */
  readonly said: string;
}

/**
 * Reads the key file that the options name. Null when they name none.
 *
 * @param absent what to do when there is no such file
 * @throws {ZenithError} as `readKeyFile`, `disk_full`
 */
export function chooseKeyFile(options: OptionValues, absent: "make" | "refuse"): ChosenKeyFile | null {
  const given = optionText(options, "keyFile");
  if (given === undefined) return null;
  const path = resolve(given);
  if (absent === "refuse") {
    return { path, said: `what is uploaded is encrypted with key ${readKeyFile(path)[0].id}` };
  }
  const { keys, isNew } = readOrMakeKeyFile(path);
  const said = `what is uploaded is encrypted with key ${keys[0].id}`;
  if (!isNew) return { path, said };
  return { path, said: `${said}; keep a copy of ${path} elsewhere: without it, nobody can read the store` };
}
