// Runs a command with the project's dependencies in place: all that has to be on the machine is Node and npm.
// Plain JavaScript, because nothing that could run TypeScript is installed yet.
import { spawnSync } from "node:child_process";
import { existsSync, statSync } from "node:fs";
import { delimiter, join } from "node:path";

const root = join(import.meta.dirname, "..");
const bin = join(root, "node_modules", ".bin");

function run(command, args, env) {
  const child = spawnSync(command, args, { cwd: root, stdio: "inherit", env });
  if (child.error) throw child.error;
  if (child.status !== 0) process.exit(child.status ?? 1);
}

/** npm leaves a note of what it has installed; it is older than the lock file when that has changed since. */
function isInstalled() {
  const installed = join(root, "node_modules", ".package-lock.json");
  const wanted = join(root, "package-lock.json");
  return existsSync(join(bin, "bun")) && existsSync(installed) &&
    statSync(installed).mtimeMs >= statSync(wanted).mtimeMs;
}

if (!isInstalled()) {
  console.error("installing dependencies …");
  run("npm", ["ci", "--no-audit", "--no-fund"], process.env);
}
const [command, ...args] = process.argv.slice(2);
run(command, args, { ...process.env, PATH: `${bin}${delimiter}${process.env.PATH}` });
