/** What is the matter with a compute that runs: told by its supervisor, for whoever lists computes. */
import { readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { systemErrorCode } from "../../common/errors.ts";
import type { ComputePaths } from "../../common/paths.ts";

export class Conditions {
  readonly #path: string;
  readonly #texts = new Map<string, string>();

  /** None at first. */
  constructor(paths: ComputePaths) {
    this.#path = paths.conditions;
    this.#write();
  }

  /** @param text a clause in one line; undefined when it is all right again */
  set(name: string, text: string | undefined): void {
    if (this.#texts.get(name) === text) return;
    if (text === undefined) this.#texts.delete(name);
    else this.#texts.set(name, text);
    this.#write();
  }

  #write(): void {
    try {
      if (this.#texts.size === 0) {
        rmSync(this.#path, { force: true });
        return;
      }
      const temporary = `${this.#path}.tmp`;
      writeFileSync(temporary, [...this.#texts.values()].join("\n"));
      renameSync(temporary, this.#path);
    } catch {
      // A full disk, say. It is in the log too.
    }
  }
}

/** What the supervisor has told; only of interest while it runs. */
export function readConditions(paths: ComputePaths): string[] {
  try {
    return readFileSync(paths.conditions, "utf8").split("\n").filter((line) => line !== "");
  } catch (error) {
    if (systemErrorCode(error) === "ENOENT") return [];
    throw error;
  }
}
