/** How much a process has computed. */
import { readdirSync, readFileSync } from "node:fs";

/** USER_HZ is 100 on every Linux that we run on. */
const MS_PER_TICK = 10;

/** Fields of proc_pid_stat(5) from the third on: the second may contain spaces. */
function statFields(pid: number | string): string[] {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  return stat.slice(stat.lastIndexOf(")") + 2).split(" ");
}

/** CPU time of a process, in ms: user and system, fields 14 and 15 of proc_pid_stat(5). */
export function cpuMs(pid: number): number {
  const fields = statFields(pid);
  return (Number(fields[11]) + Number(fields[12])) * MS_PER_TICK;
}

/** CPU time of a process and of all that it has started, those included that have ended and been waited for, in ms. */
export function treeCpuMs(pid: number): number {
  const processes = new Map<number, string[]>();
  for (const name of readdirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    try {
      processes.set(Number(name), statFields(name));
    } catch {
      // It has just ended.
    }
  }
  const ofTree = (root: number): number => {
    // utime, stime, cutime, cstime
    let ticks = processes.get(root)!.slice(11, 15).reduce((sum, field) => sum + Number(field), 0);
    for (const [child, fields] of processes) if (Number(fields[1]) === root) ticks += ofTree(child);
    return ticks;
  };
  return ofTree(pid) * MS_PER_TICK;
}
