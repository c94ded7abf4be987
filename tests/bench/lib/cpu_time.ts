/** How much a process has computed. */
import { readFileSync } from "node:fs";

/** USER_HZ is 100 on every Linux that we run on. */
const MS_PER_TICK = 10;

/** CPU time of a process, in ms: user and system, fields 14 and 15 of proc_pid_stat(5). */
export function cpuMs(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) * MS_PER_TICK;
}
