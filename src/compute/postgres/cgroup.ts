/** Limits what one Postgres takes of the machine, by a control group (cgroup v2) of its own. */
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ioError, systemErrorCode, ZenithError } from "../../common/errors.ts";
import type { PgUser } from "../../pg_install/pg_user.ts";

/** What a Postgres may take, with all processes that it starts. */
export interface CgroupLimits {
  /** The directory of the control group in which those of computes are made. */
  readonly parent: string;
  /** The name of this compute's. */
  readonly name: string;
  readonly memoryMaxBytes?: number | undefined;
  /** In cores: 0.5 is half of one. */
  readonly cpus?: number | undefined;
  readonly processesMax?: number | undefined;
}

/** The time over which the kernel counts what a group has had of the cores, its default. */
const CPU_PERIOD_US = 100_000;

/** The file that a control group of version 2 has. */
const CONTROLLERS = "cgroup.controllers";

/**
 * Makes the control group, or takes the one that is there.
 *
 * @returns its directory
 * @throws {ZenithError} `not_found` when the parent is none, `invalid_argument` when it has no
 *   controller for a limit, `io`
 */
export function makeCgroup(limits: CgroupLimits): string {
  const { parent, name, memoryMaxBytes, cpus, processesMax } = limits;
  if (!existsSync(join(parent, CONTROLLERS))) {
    throw new ZenithError("not_found", `${parent} is no control group of version 2`, {
      hint: "make a directory below the place where cgroup2 is mounted, and name it in compute.cgroup",
    });
  }
  const wanted = [
    ["memory", "memory.max", memoryMaxBytes],
    [
      "cpu",
      "cpu.max",
      cpus === undefined ? undefined : `${Math.ceil(cpus * CPU_PERIOD_US)} ${CPU_PERIOD_US}`,
    ],
    ["pids", "pids.max", processesMax],
  ] as const;
  const dir = join(parent, name);
  try {
    mkdirSync(dir, { recursive: true });
    for (const [controller, file, value] of wanted) {
      if (value === undefined) continue;
      if (!existsSync(join(dir, file))) enable(parent, controller);
      writeFileSync(join(dir, file), String(value));
    }
  } catch (error) {
    throw error instanceof ZenithError ? error : ioError("set up the control group", dir, error);
  }
  return dir;
}

/**
 * Lets groups below `parent` have a controller.
 *
 * @throws {ZenithError} `invalid_argument` when it has none itself
 */
function enable(parent: string, controller: string): void {
  const has = readFileSync(join(parent, CONTROLLERS), "utf8").trim().split(" ");
  if (has.includes(controller)) {
    writeFileSync(join(parent, "cgroup.subtree_control"), `+${controller}`);
    return;
  }
  throw new ZenithError(
    "invalid_argument",
    `the control group ${parent} has no ${controller} controller, only: ${has.join(", ")}`,
    { hint: `enable it above: echo +${controller} > ${join(parent, "..", "cgroup.subtree_control")}` },
  );
}

/** Removes the control group. One in which something still runs stays. */
export function removeCgroup({ parent, name }: CgroupLimits): void {
  const dir = join(parent, name);
  try {
    rmdirSync(dir);
  } catch (error) {
    const code = systemErrorCode(error);
    if (code !== "ENOENT" && code !== "EBUSY") throw ioError("remove the control group", dir, error);
  }
}

/**
 * Wraps a command so that it begins in the control group: whatever it starts is in it, too. Only
 * afterwards does it become the user, who can't leave the group.
 *
 * @param dir as {@link makeCgroup} returns it; undefined for none
 */
export function inCgroup(
  dir: string | undefined,
  { file, args, user }: { file: string; args: string[]; user: PgUser | undefined },
): { file: string; args: string[]; user: PgUser | undefined } {
  if (dir === undefined) return { file, args, user };
  const drop = user === undefined
    ? []
    : ["setpriv", "--reuid", String(user.uid), "--regid", String(user.gid), "--clear-groups", "--"];
  return {
    file: "sh",
    args: [
      ...["-c", 'echo $$ > "$1" || exit 1; shift; exec "$@"', "sh"],
      ...[join(dir, "cgroup.procs"), ...drop, file, ...args],
    ],
    user: undefined,
  };
}
