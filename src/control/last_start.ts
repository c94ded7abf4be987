/**
 * Records a compute's last start: whether it should run, how it was started, and why the start
 * failed. The record is a small JSON file beside the data directory; docs/formats/small_files.md
 * describes it.
 */
import { readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { boolean, type InferOutput, nullable, object, optional, parse, picklist, string } from "valibot";
import { errorMessage, ioError, systemErrorCode, ZenithError } from "../common/errors.ts";
import type { ComputePaths } from "../common/paths.ts";

const LastStartSchema = object({
  /** Whether it ran and was not stopped individually, so that `zenith start` brings it back. */
  wanted: boolean(),
  storage: optional(picklist(["auto", "lazy", "eager"])),
  prewarm: optional(boolean()),
  /** The LSN that a read-only start looks at. */
  lsn: optional(string()),
  failure: nullable(object({
    /** RFC 3339. */
    at: string(),
    message: string(),
    hint: nullable(string()),
  })),
});

export type LastStart = InferOutput<typeof LastStartSchema>;
export type StartFailure = NonNullable<LastStart["failure"]>;

const NEVER: LastStart = { wanted: false, failure: null };

/** @throws {ZenithError} `io` */
export function readLastStart(paths: ComputePaths): LastStart {
  let text: string;
  try {
    text = readFileSync(paths.lastStart, "utf8");
  } catch (error) {
    if (systemErrorCode(error) === "ENOENT") return NEVER;
    throw ioError("read", paths.lastStart, error);
  }
  try {
    return parse(LastStartSchema, JSON.parse(text));
  } catch {
    // The file was cut off by a crash or comes from another version, so nothing is known.
    return NEVER;
  }
}

/** Records that the compute runs, and that it was started with `options`. */
export function noteStart(
  paths: ComputePaths,
  options: Pick<LastStart, "storage" | "prewarm" | "lsn">,
): void {
  write(paths, { ...options, wanted: true, failure: null });
}

/** Records that a start failed. Whether the compute should run does not change. */
export function noteFailedStart(paths: ComputePaths, error: unknown): void {
  const hint = error instanceof ZenithError ? error.hint ?? null : null;
  const failure = { at: new Date().toISOString(), message: errorMessage(error), hint };
  write(paths, { ...readLastStart(paths), failure });
}

/** Records that the compute should no longer run. */
export function forgetStart(paths: ComputePaths): void {
  try {
    rmSync(paths.lastStart, { force: true });
  } catch (error) {
    throw ioError("remove", paths.lastStart, error);
  }
}

/** Records that the compute should run again when everything is started. */
export function noteWanted(paths: ComputePaths): void {
  const last = readLastStart(paths);
  if (!last.wanted) write(paths, { ...last, wanted: true });
}

/** Describes a failed start to the user, in one line. */
export function describeFailure({ message, hint }: StartFailure): string {
  return `last start failed: ${message}${hint === null ? "" : `; ${hint}`}`;
}

function write(paths: ComputePaths, value: LastStart): void {
  const temporary = `${paths.lastStart}.new`;
  try {
    writeFileSync(temporary, `${JSON.stringify(value)}\n`);
    renameSync(temporary, paths.lastStart);
  } catch (error) {
    throw ioError("write", paths.lastStart, error);
  }
}
