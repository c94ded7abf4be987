#!/usr/bin/env node
// Runs the executable that npm has installed for this machine, as if it had been called itself.
"use strict";

const { spawn } = require("node:child_process");
const { constants } = require("node:os");

const name = `@SCOPE@/${process.platform}-${process.arch}`;

function executable() {
  try {
    return require.resolve(`${name}/bin/zenith`);
  } catch {
    console.error(`zenith: the package ${name} is not installed`);
    console.error(
      "hint: there are executables for Linux with glibc, x64 and arm64; npm leaves them out with --omit=optional",
    );
    process.exit(1);
  }
}

const child = spawn(executable(), process.argv.slice(2), { stdio: "inherit" });

// A terminal sends Ctrl-C to both; what is sent to this process alone is passed on.
process.on("SIGINT", () => {});
for (const signal of ["SIGTERM", "SIGHUP", "SIGQUIT"]) process.on(signal, () => child.kill(signal));

child.on("error", (error) => {
  console.error(`zenith: could not run ${child.spawnfile}: ${error.message}`);
  process.exit(1);
});
child.on("exit", (code, signal) => process.exit(code ?? 128 + constants.signals[signal]));
