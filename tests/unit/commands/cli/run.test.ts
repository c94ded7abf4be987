import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Command, CommandCatalog, OptionValues } from "../../../../src/commands/cli/command.ts";
import { commandName, exitCodeOf } from "../../../../src/commands/cli/command.ts";
import { runCommand } from "../../../../src/commands/cli/run.ts";
import { ZenithError } from "../../../../src/common/errors.ts";

interface Call {
  name: string;
  args: readonly (string | undefined)[];
  options: OptionValues;
  rest: readonly string[];
}

function commands(calls: Call[]): CommandCatalog[] {
  const command = (usage: string, code?: number, rest?: string): Command => ({
    usage,
    description: usage,
    ...(rest === undefined ? {} : { rest }),
    options: [
      { flags: "--tenantid <id>", description: "" },
      { flags: "-m, --mode <mode>", description: "", default: "fast" },
      { flags: "--destroy", description: "" },
    ],
    run: (args, options, rest) => {
      calls.push({ name: usage, args, options, rest });
      return Promise.resolve(code);
    },
  });
  const all = [
    command("start"),
    command("pg start <branch>"),
    command("pg list"),
    command("branch [name] [start]", 7),
    command("psql [branch]", 0, "<psql's arguments>"),
  ];
  const byName = all.map((command) => [commandName(command), () => Promise.resolve(command)]);
  return [{ title: "All", commands: Object.fromEntries(byName) }];
}

async function call(...argv: string[]): Promise<Call> {
  const calls: Call[] = [];
  await runCommand(commands(calls), argv);
  assert.equal(calls.length, 1);
  return calls[0];
}

async function refused(...argv: string[]): Promise<ZenithError> {
  const calls: Call[] = [];
  try {
    await runCommand(commands(calls), argv);
  } catch (error) {
    assert.ok(error instanceof ZenithError);
    assert.equal(exitCodeOf(error), 2);
    assert.deepEqual(calls, []);
    return error;
  }
  throw new Error(`${argv.join(" ")} was accepted`);
}

describe("the command line", () => {
  test("finds commands of one and of two words", async () => {
    assert.equal((await call("start")).name, "start");
    const start = await call("pg", "start", "main");
    assert.equal(start.name, "pg start <branch>");
    assert.deepEqual(start.args, ["main"]);
  });

  test("a command's own exit code is the program's", async () => {
    assert.equal(await runCommand(commands([]), ["branch"]), 7);
    assert.equal(await runCommand(commands([]), ["start"]), 0);
  });

  test("arguments that are left out are undefined", async () => {
    assert.deepEqual((await call("branch")).args, [undefined, undefined]);
    assert.deepEqual((await call("branch", "b1", "main@0/16B5A50")).args, ["b1", "main@0/16B5A50"]);
  });

  test("what looks like a number stays text", async () => {
    const id = "12345678901234567890123456789012";
    assert.equal((await call("start", "--tenantid", id)).options["tenantid"], id);
    assert.equal((await call("start", `--tenantid=${id}`)).options["tenantid"], id);
    assert.deepEqual((await call("pg", "start", "007")).args, ["007"]);
    assert.equal((await call("start", "--tenantid", "1e5")).options["tenantid"], "1e5");
  });

  test("an option may come before its command", async () => {
    const start = await call("--tenantid", "x", "start");
    assert.equal(start.name, "start");
    assert.equal(start.options["tenantid"], "x");
  });

  test("options have defaults, short names and flags", async () => {
    const plain = await call("start");
    assert.equal(plain.options["mode"], "fast");
    assert.equal(plain.options["destroy"], undefined);
    const given = await call("start", "-m", "immediate", "--destroy");
    assert.equal(given.options["mode"], "immediate");
    assert.equal(given.options["destroy"], true);
  });

  test("what follows -- is handed on as it is, by commands that have a use for it", async () => {
    const psql = await call("psql", "main", "--", "-c", "select 1", "--help", "-h", "10", "");
    assert.deepEqual(psql.args, ["main"]);
    assert.deepEqual(psql.rest, ["-c", "select 1", "--help", "-h", "10", ""]);
    assert.deepEqual((await call("psql")).rest, []);
    assert.match((await refused("start", "--", "x")).message, /"zenith start" takes nothing after "--"/);
  });

  test("usage that makes no sense is refused with a hint, and nothing is run", async () => {
    const slip = await refused("strat");
    assert.match(slip.message, /there is no command "strat"/);
    assert.match(slip.hint ?? "", /did you mean "zenith start"\?/);
    assert.doesNotMatch((await refused("elephant")).hint ?? "", /did you mean/);
    assert.match((await refused("pg")).hint ?? "", /zenith pg start <branch>/);
    assert.match((await refused("pg", "fly")).message, /there is no command "pg fly"/);
    assert.match((await refused("pg", "start")).message, /missing required args/);
    assert.match((await refused("pg", "start", "a", "b")).message, /"b"/);
    assert.match((await refused("start", "--tenant", "x")).message, /Unknown option "--tenant"/);
    assert.match((await refused("start", "--tenantid")).message, /value is missing/);
    assert.match((await refused("start", "--tenantid", "a", "--tenantid", "b")).message, /given 2 times/);
  });
});

describe("exit codes", () => {
  test("tell wrong usage, absent servers, absent things and conflicts apart", () => {
    assert.equal(exitCodeOf(new ZenithError("invalid_argument", "")), 2);
    assert.equal(exitCodeOf(new ZenithError("unavailable", "")), 3);
    assert.equal(exitCodeOf(new ZenithError("not_found", "")), 4);
    assert.equal(exitCodeOf(new ZenithError("already_exists", "")), 5);
    assert.equal(exitCodeOf(new ZenithError("corrupt_data", "")), 1);
    assert.equal(exitCodeOf(new Error("anything")), 1);
  });
});
