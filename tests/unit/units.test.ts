import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { findProgram } from "../../src/process/find_program.ts";

const PACKAGING = fileURLToPath(new URL("../../packaging/", import.meta.url));
const UNITS = ["zenith.service", "zenith-serve.service"];

const analyze = findProgram("systemd-analyze");
const skip = analyze === undefined ? "there is no systemd-analyze here" : false;

describe("systemd's units", () => {
  test("are what systemd understands, to the last line", { skip }, () => {
    const dir = mkdtempSync(join(tmpdir(), "zenith-units-"));
    try {
      const paths = UNITS.map((name) => join(dir, name));
      for (const [i, name] of UNITS.entries()) {
        // The program has to be there.
        const text = readFileSync(join(PACKAGING, name), "utf8");
        writeFileSync(paths[i]!, text.replaceAll("/usr/local/bin/zenith", "/bin/true"));
      }
      const { stderr } = spawnSync(analyze!, ["verify", "--man=no", ...paths], { encoding: "utf8" });
      // Its exit code tells of the machine's units as well, and not of lines that it ignores.
      assert.deepEqual(stderr.split("\n").filter((line) => line.includes("zenith")), []);
    } finally {
      rmSync(dir, { recursive: true });
    }
  });
});
