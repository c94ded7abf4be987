import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { loadCommands } from "../../../../src/commands/cli/command.ts";
import { complete } from "../../../../src/commands/cli/completion.ts";
import { COMMANDS } from "../../../../src/commands/registry.ts";

const commands = (await loadCommands(COMMANDS)).flatMap((group) => group.commands);
const TENANT = "d70d3869a8c586d3eaf7029fe261620c";
const names = {
  branches: () => ["dev", "main"],
  moments: () => ["main@0/16B5A50"],
  tenants: () => [TENANT],
};

/** What a shell is offered; the last word is the one that is being typed. */
const at = (...words: string[]) => complete(commands, words, names);

describe("completion", () => {
  test("begins with commands, hidden ones left out", () => {
    assert.deepEqual(at("st"), ["standby", "start", "status", "stop"]);
    assert.ok(at("").includes("psql"));
    assert.ok(!at("").includes("compute"));
    assert.ok(!at("").includes("complete"));
    assert.deepEqual(at("--"), ["--help", "--version"]);
  });

  test("goes on with second words, also of a command that is one by itself", () => {
    assert.deepEqual(at("pg", "st"), ["standby", "start", "stop"]);
    assert.ok(at("branch", "").includes("delete"));
    assert.deepEqual(at("help", "pg", "l"), ["list"]);
  });

  test("knows the branches that there are", () => {
    assert.deepEqual(at("pg", "create", ""), ["dev", "main"]);
    assert.deepEqual(at("branch", "delete", "d"), ["dev"]);
    assert.deepEqual(at("psql", "m"), ["main", "main@0/16B5A50"]);
    assert.deepEqual(at("branch", "new", "m"), ["main"]);
    assert.deepEqual(at("pg", "start", "main", ""), []);
  });

  test("goes on behind the names of other tools", () => {
    assert.ok(at("branches", "").includes("restore"));
    assert.deepEqual(at("cs", "d"), ["dev"]);
    assert.deepEqual(at("branch", "rm", "d"), ["dev"]);
  });

  test("knows options and what their values are one of", () => {
    assert.deepEqual(at("pg", "stop", "main", "--m"), ["--mode"]);
    assert.deepEqual(at("pg", "stop", "-m", ""), ["fast", "immediate"]);
    assert.deepEqual(at("pg", "stop", "-m", "fast", ""), ["dev", "main", "main@0/16B5A50"]);
    assert.deepEqual(at("pg", "start", "main", "--storage", "l"), ["lazy"]);
    assert.deepEqual(at("branch", "--tenantid", ""), [TENANT]);
    assert.deepEqual(at("tenant", "delete", ""), [TENANT]);
    assert.deepEqual(at("completion", ""), ["bash", "fish", "zsh"]);
  });

  test("leaves files and what is another program's to the shell", () => {
    assert.deepEqual(at("dump", "wal", ""), []);
    assert.deepEqual(at("pageserver", "-D", ""), []);
    assert.deepEqual(at("psql", "main", "--", "-"), []);
    assert.deepEqual(at("elephant", ""), []);
  });
});
