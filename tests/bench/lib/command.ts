/** Programs of the system that benchmarks use. */
import { spawn, spawnSync } from "node:child_process";

/** @throws {Error} with what it says when it fails */
export function command(program: string, ...args: string[]): void {
  const done = spawnSync(program, args, { encoding: "utf8" });
  if (done.status !== 0) throw new Error(`${program}: ${done.error?.message ?? done.stderr.trim()}`);
}

/** As {@link command}, beside whatever else is going on. */
export function runBeside(program: string, ...args: string[]): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: ["ignore", "ignore", "pipe"] });
    let said = "";
    child.stderr.on("data", (chunk) => (said += chunk));
    child.on("error", reject);
    child.on(
      "close",
      (code) => code === 0 ? resolve() : reject(new Error(`${program}: ${said.trim()}`)),
    );
  });
}
