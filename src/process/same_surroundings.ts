/**
 * Whether another process could have been started by this one: the same program, user, limits,
 * namespaces and control group. A spare of which this is not true can't do this process's work.
 */
import { readFileSync, readlinkSync, statSync } from "node:fs";

/** What of `/proc/<pid>/status` is inherited. */
const STATUS_LINES =
  /^(?:Uid|Gid|Groups|Umask|CapInh|CapPrm|CapEff|CapBnd|CapAmb|NoNewPrivs|Seccomp|Cpus_allowed|Mems_allowed):.*$/gm;

const NAMESPACES = ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"];

/** Field 19 of `/proc/<pid>/stat`, counted from behind the command's name. */
const NICE = 16;

/** @returns false also when it can't be told */
export function isOfSameProgram(pid: number): boolean {
  try {
    // An executable that has been replaced has another inode, even under its old name.
    const [own, others] = ["self", pid].map((process) => statSync(`/proc/${process}/exe`, { bigint: true }));
    return own.dev === others.dev && own.ino === others.ino && own.mtimeNs === others.mtimeNs;
  } catch {
    return false;
  }
}

/** @returns false also when it can't be told */
export function hasSameSurroundings(pid: number): boolean {
  try {
    return surroundings("self") === surroundings(String(pid));
  } catch {
    return false;
  }
}

function surroundings(process: string): string {
  const read = (name: string): string => readFileSync(`/proc/${process}/${name}`, "utf8");
  const stat = read("stat");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return [
    ...read("status").match(STATUS_LINES) ?? [],
    read("limits"),
    read("cgroup"),
    read("oom_score_adj"),
    fields[NICE],
    readlinkSync(`/proc/${process}/root`),
    ...NAMESPACES.map((name) => readlinkSync(`/proc/${process}/ns/${name}`)),
  ].join("\n");
}
