/** Which supervisor takes the next start. */
import { isFileLocked } from "../../../src/process/file_lock.ts";
import { aheadLock } from "../../../src/process/spare_ahead.ts";
import { until, type ZenithEnv } from "../../harness/zenith_env.ts";

/** Each, and the slots whose spares have to end for it: those that have worked wait in the first. */
const SUPERVISORS = {
  "one that has worked": /^$/,
  "one started ahead": /1\.sock$/,
  "a new one": /./,
};

export type Supervisor = keyof typeof SUPERVISORS;

export const ALL_SUPERVISORS = Object.keys(SUPERVISORS) as Supervisor[];

/** Waits until one waits ahead of need, and has loaded its code. Some Postgres has to run. */
export async function untilOneIsAhead(env: ZenithEnv): Promise<void> {
  await until(
    "a supervisor waits ahead of need",
    () =>
      env.spares().some(({ socket }) => socket.endsWith("2.sock")) &&
      !isFileLocked(aheadLock(env.paths.spares)),
  );
}

/** Ends what waits before that supervisor. */
export async function leaveOnly(env: ZenithEnv, supervisor: Supervisor): Promise<void> {
  for (const { socket, process: { pid } } of env.spares()) {
    if (!SUPERVISORS[supervisor].test(socket)) continue;
    process.kill(pid, "SIGTERM");
    await until("it has ended", () => env.spares().every((spare) => spare.process.pid !== pid));
  }
}
