/**
 * The conditions of a running compute that are worth reporting. Its supervisor writes them to a
 * file for the commands that list computes or look for problems.
 */
import { readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { array, boolean, nullable, object, parse, string } from "valibot";
import { systemErrorCode } from "../../common/errors.ts";
import type { ComputePaths } from "../../common/paths.ts";

/** What to do about a condition that is a problem. */
export interface Remedy {
  readonly hint: string;
  /** Whether the condition keeps the compute from doing its job. */
  readonly down: boolean;
}

const ConditionsSchema = array(object({
  text: string(),
  remedy: nullable(object({ hint: string(), down: boolean() })),
}));

export interface Condition {
  /** A clause of one line. */
  readonly text: string;
  /** Null when it is not a problem, but worth knowing. */
  readonly remedy: Remedy | null;
}

export class Conditions {
  readonly #path: string;
  readonly #conditions = new Map<string, Condition>();

  /** Starts without any condition. */
  constructor(paths: ComputePaths) {
    this.#path = paths.conditions;
    this.#write();
  }

  /**
   * @param text a clause of one line; undefined when all is well again
   * @param remedy what to do about it, if it is a problem
   */
  set(name: string, text: string | undefined, remedy: Remedy | null = null): void {
    const known = this.#conditions.get(name);
    if (known?.text === text && known?.remedy?.hint === remedy?.hint) return;
    if (text === undefined) this.#conditions.delete(name);
    else this.#conditions.set(name, { text, remedy });
    this.#write();
  }

  /** Removes all conditions, because the compute that they describe has ended. */
  clear(): void {
    this.#conditions.clear();
    this.#write();
  }

  #write(): void {
    try {
      if (this.#conditions.size === 0) {
        rmSync(this.#path, { force: true });
        return;
      }
      const temporary = `${this.#path}.tmp`;
      writeFileSync(temporary, JSON.stringify([...this.#conditions.values()]));
      renameSync(temporary, this.#path);
    } catch {
      // The disk may be full, for example. The log has the condition too.
    }
  }
}

/** Returns what the supervisor has reported. Only meaningful while it runs. */
export function readConditions(paths: ComputePaths): readonly Condition[] {
  let text: string;
  try {
    text = readFileSync(paths.conditions, "utf8");
  } catch (error) {
    if (systemErrorCode(error) === "ENOENT") return [];
    throw error;
  }
  try {
    return parse(ConditionsSchema, JSON.parse(text));
  } catch {
    // A supervisor of another version may have written the file.
    return text.split("\n").filter((line) => line !== "").map((line) => ({ text: line, remedy: null }));
  }
}
