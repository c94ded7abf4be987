import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { commandHelp, groupHelp, overview } from "../../../../src/commands/cli/help.ts";
import { commandName, loadCommands } from "../../../../src/commands/cli/command.ts";
import { COMMANDS } from "../../../../src/commands/registry.ts";

const groups = await loadCommands(COMMANDS);
const commands = groups.flatMap((group) => group.commands);
const shown = commands.filter((command) => command.hidden !== true);

describe("help", () => {
  test("of everything names every command once, and none that is hidden", () => {
    const text = overview(groups);
    for (const command of commands) {
      const lines = text.split("\n").filter((line) => line.startsWith(`  ${command.usage}  `));
      assert.equal(lines.length, command.hidden === true ? 0 : 1, command.usage);
    }
  });

  test("of everything fits a terminal", () => {
    for (const line of overview(groups).split("\n")) assert.ok(line.length <= 120, line);
  });

  test("of a command has its usage, every option and an example of it", () => {
    for (const command of shown) {
      const text = commandHelp(command, commands);
      assert.ok(text.includes(`zenith ${command.usage}`), command.usage);
      for (const option of command.options ?? []) assert.ok(text.includes(option.flags), option.flags);
      assert.ok((command.examples ?? []).length > 0, `${command.usage} has no example`);
      for (const [line] of command.examples ?? []) {
        assert.ok(line.startsWith(commandName(command)), `${line} is no example of ${command.usage}`);
      }
    }
  });

  test("of a word that begins several commands lists them", () => {
    const text = groupHelp("pg", commands) ?? "";
    for (const name of ["pg list", "pg create", "pg start", "pg stop"]) {
      assert.ok(text.includes(`zenith ${name}`));
    }
    assert.equal(groupHelp("elephant", commands), undefined);
  });
});
