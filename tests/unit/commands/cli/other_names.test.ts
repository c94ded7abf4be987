import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { OTHER_NAMES, translate } from "../../../../src/commands/cli/other_names.ts";
import { runCommand } from "../../../../src/commands/cli/run.ts";
import { COMMANDS } from "../../../../src/commands/registry.ts";
import { ZenithError } from "../../../../src/common/errors.ts";
import { parseCommand } from "../../../harness/parsed_command.ts";

const NAMES = COMMANDS.flatMap(({ commands }) => Object.keys(commands));
const FIRST_WORDS = new Set(NAMES.map((name) => name.split(" ")[0]));

/** The name, arguments and options of the command that would run. */
async function meant(...words: string[]): Promise<unknown[]> {
  const { name, args, options } = (await parseCommand(words))!;
  return [name, args, options];
}

async function hintOf(word: string): Promise<string> {
  try {
    await runCommand(COMMANDS, [word, "list"]);
  } catch (error) {
    assert.ok(error instanceof ZenithError);
    return error.hint ?? "";
  }
  throw new Error(`${word} is a command`);
}

describe("another tool's name of a command", () => {
  test("means that command, with its arguments and options", async () => {
    assert.deepEqual(await meant("branches", "ls", "--json"), ["branch list", [], { json: true }]);
    assert.deepEqual(await meant("cs", "dev", "--env"), ["uri", ["dev"], { env: true }]);
    assert.deepEqual(
      await meant("branches", "schema-diff", "main", "dev"),
      ["branch diff", ["main", "dev"], { schema: true }],
    );
    assert.deepEqual(
      await meant("branches", "create", "--name", "dev", "--parent", "main"),
      ["branch create", [], { name: "dev", parent: "main" }],
    );
    assert.deepEqual(await meant("projects", "delete", "x", "--yes"), ["tenant delete", ["x"], {
      yes: true,
    }]);
  });

  test("is no name of a command here, and stands for one", () => {
    for (const [typed] of OTHER_NAMES) {
      assert.ok(!NAMES.includes(typed), typed);
      const words = translate(typed.split(" "));
      const isName = NAMES.includes(words.slice(0, 2).join(" ")) || NAMES.includes(words[0]);
      assert.ok(isName || FIRST_WORDS.has(words[0]), `${typed}: ${words.join(" ")}`);
    }
  });

  test("leaves arguments alone", () => {
    assert.deepEqual(translate(["psql", "cs"]), ["psql", "cs"]);
    assert.deepEqual(translate(["branch", "checkout", "main"]), ["branch", "checkout", "main"]);
    assert.deepEqual(translate([]), []);
  });

  test("of what has no command is answered with what to do instead", async () => {
    for (const word of ["databases", "database", "db"]) assert.match(await hintOf(word), /create database/);
    assert.match(await hintOf("roles"), /create role/);
    assert.match(await hintOf("snapshots"), /zenith branch/);
    assert.match(await hintOf("set-context"), /zenith init/);
  });
});
