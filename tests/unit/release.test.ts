/** What makes a release's files: the same bytes each time, and a manual page that has every command. */
import assert from "node:assert/strict";
import { chmodSync, mkdtempSync, readFileSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { makeDeb } from "../../scripts/release/deb.ts";
import { manPage } from "../../scripts/release/man_page.ts";
import { makeMainPackage, makePlatformPackage } from "../../scripts/release/npm.ts";
import { releaseInfo } from "../../scripts/release/release_info.ts";
import { findProgram } from "../../src/process/find_program.ts";
import { commandName, loadCommands } from "../../src/commands/cli/command.ts";
import { COMMANDS } from "../../src/commands/registry.ts";

const skip = findProgram("dpkg-deb") === undefined ? "there is no dpkg-deb here" : false;

test("packages are the same bytes, whatever the clock, the umask and the directory", { skip }, async () => {
  const made: Buffer[][] = [];
  for (const umask of [0o022, 0o077]) {
    const directory = mkdtempSync(join(tmpdir(), "zenith-release-"));
    const before = process.umask(umask);
    try {
      const executable = join(directory, "some name");
      const bill = join(directory, "bill");
      writeFileSync(executable, "#!/bin/sh\n");
      chmodSync(executable, umask === 0o022 ? 0o700 : 0o755);
      utimesSync(executable, umask, umask);
      writeFileSync(bill, "{}\n");
      const options = { ...releaseInfo(), arch: "arm64", executable, bill, compression: 1, directory };
      const files = [
        await makeDeb(options),
        await makePlatformPackage(options),
        await makeMainPackage(options, ["x64", "arm64"]),
      ];
      made.push(files.map((file) => readFileSync(file)));
    } finally {
      process.umask(before);
      rmSync(directory, { recursive: true });
    }
  }
  const [first, second] = made;
  assert.equal(first!.length, 3);
  for (const [i, bytes] of first!.entries()) assert.ok(bytes.equals(second![i]!), `file ${i} differs`);
});

describe("the manual page", () => {
  test("has every command and option, and no word that troff takes for its own", async () => {
    const groups = await loadCommands(COMMANDS);
    const page = manPage(groups, "1.2.3", "2026-11-30");
    const plain = page.replaceAll("\\-", "-").replaceAll('""', '"').replaceAll("\\&...", "…");
    for (const command of groups.flatMap(({ commands }) => commands)) {
      const shown = plain.includes(`.B "zenith ${command.usage}`);
      assert.equal(shown, command.hidden !== true, commandName(command));
      if (!shown) continue;
      for (const { flags } of command.options ?? []) assert.ok(plain.includes(`.B "${flags}"`), flags);
    }
    const requests = new Set(Array.from(page.matchAll(/^[.'](\S*)/gm), ([, name]) => name));
    assert.deepEqual([...requests].sort(), [
      "B",
      "BR",
      "I",
      "PP",
      "RE",
      "RS",
      "SH",
      "SS",
      "TH",
      "TP",
      "ad",
      "br",
      "nh",
    ]);
    assert.doesNotMatch(page.replaceAll(/\\([-e&])/g, ""), /\\/);
  });
});
