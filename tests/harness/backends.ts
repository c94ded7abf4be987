/** Kills processes of a running Postgres, as a crash or an OOM killer would. */
import { readdirSync, readFileSync } from "node:fs";
import { checkPidFile } from "../../src/process/pid_file.ts";
import { postmasterPid } from "../../src/compute/postgres/postgres_process.ts";
import { type Compute, until } from "./zenith_env.ts";

/**
 * pwrite64(2) and pwritev(2) on x64: what Postgres writes pages of relations with, from 17 on the
 * second.
 */
const WRITE_CALLS = /^(?:18|296) /;

/** Sessions, as Postgres titles their processes: `postgres: user database host(port) statement`. */
const SESSION = /^postgres: (?!walsender)\S+ \S+ \S+\(\d+\)/;

/** To list processes takes longer than to look at the few that there are. */
const LOOKS_PER_LIST = 50;

/** The processes of the compute's Postgres, without the postmaster. */
export function childrenOfPostgres(pg: Compute): { readonly pid: number; readonly title: string }[] {
  const postmaster = postmasterPid(pg.paths.pgdata);
  if (postmaster === undefined) return [];
  return readdirSync("/proc").filter((name) => /^\d+$/.test(name)).flatMap((name) => {
    const parent = /^PPid:\s+(\d+)$/m.exec(readProc(name, "status"))?.[1];
    if (parent !== String(postmaster)) return [];
    return [{ pid: Number(name), title: readProc(name, "cmdline").replaceAll("\0", " ").trim() }];
  });
}

/**
 * Whether a process is inside pwrite(2) or pwritev(2), asleep in the kernel, with a part of a page
 * written perhaps.
 */
export function isInsideWrite(pid: number): boolean {
  if (!/^State:\tD/m.test(readProc(String(pid), "status"))) return false;
  return WRITE_CALLS.test(readProc(String(pid), "syscall"));
}

/** A process of Postgres that is inside pwrite at this moment, or, when none is found for so long, any session. */
export async function huntWriter(pg: Compute, huntMs: number): Promise<number> {
  const deadline = performance.now() + huntMs;
  for (let children = childrenOfPostgres(pg);; children = childrenOfPostgres(pg)) {
    for (let looks = 0; looks < LOOKS_PER_LIST; looks++) {
      const found = children.find(({ pid }) => isInsideWrite(pid));
      if (found !== undefined) return found.pid;
      await new Promise((resolve) => setImmediate(resolve));
    }
    const session = children.find(({ title }) => SESSION.test(title));
    if (session !== undefined && performance.now() > deadline) return session.pid;
  }
}

/** Ends one process of Postgres with SIGKILL. @returns false when it has ended by itself */
export function killChild(pid: number): boolean {
  try {
    process.kill(pid, "SIGKILL");
    return true;
  } catch {
    return false;
  }
}

/** Waits until that postmaster is gone and another one accepts connections; its supervisor must live. */
export async function untilStartedAfresh(pg: Compute, postmaster: number): Promise<void> {
  await until("Postgres has been started afresh", async () => {
    if (checkPidFile(pg.paths.pidFile).state !== "running") {
      throw new Error(`the supervisor has ended:\n${pg.log().slice(-2_000)}`);
    }
    const now = postmasterPid(pg.paths.pgdata);
    if (now === undefined || now === postmaster) return false;
    return await pg.value("SELECT 1").then(() => true, () => false);
  });
}

function readProc(pid: string, name: string): string {
  try {
    return readFileSync(`/proc/${pid}/${name}`, "utf8");
  } catch {
    // It has ended.
    return "";
  }
}
