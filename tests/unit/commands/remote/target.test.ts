import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { loadCommands } from "../../../../src/commands/cli/command.ts";
import { remoteCatalog } from "../../../../src/commands/remote/catalog.ts";
import { REMOTE_COMMANDS } from "../../../../src/commands/remote/commands.ts";
import { takeTarget } from "../../../../src/commands/remote/target.ts";
import { COMMANDS } from "../../../../src/commands/registry.ts";

const URL = "https://db.example.org";

describe("the target of a command line", () => {
  test("is taken out of it, wherever it stands, but not what follows --", () => {
    const { target, argv } = takeTarget([
      "branch",
      "--remote",
      URL,
      "get",
      "--token=a=b",
      "dev",
      "--",
      "--ca",
    ], {});
    assert.deepEqual(argv, ["branch", "get", "dev", "--", "--ca"]);
    assert.deepEqual([target.url.host, target.token, target.ca], ["db.example.org", "a=b", undefined]);
  });

  test("comes from variables where options don't say it, and files are read", () => {
    const directory = mkdtempSync(join(tmpdir(), "zenith-target-"));
    try {
      const file = join(directory, "token");
      writeFileSync(file, "secret\n");
      const env = { ZENITH_REMOTE: `${URL}:8443`, ZENITH_TOKEN: `@${file}`, ZENITH_CA: file };
      const { target } = takeTarget(["status"], env);
      assert.deepEqual([target.url.host, target.token, target.ca], [
        "db.example.org:8443",
        "secret",
        "secret\n",
      ]);
      assert.equal(takeTarget(["status", "--token", "mine"], env).target.token, "mine");
    } finally {
      rmSync(directory, { recursive: true });
    }
  });

  test("is refused when it is none, or would show the token to the network", () => {
    for (
      const url of [
        "db.example.org",
        "https://db.example.org/v1",
        "ftp://db.example.org",
        "http://db.example.org",
      ]
    ) {
      assert.throws(() => takeTarget(["status", "--remote", url], {}), /--remote is/, url);
    }
    assert.equal(takeTarget(["status", "--remote", "http://[::1]:8432"], {}).target.url.port, "8432");
    assert.throws(() => takeTarget(["status", "--remote"], {}), /--remote has no value/);
  });
});

test("what a command takes elsewhere, it takes here: the same words", async () => {
  const { target } = takeTarget(["--remote", URL], {});
  const remote = (await loadCommands(remoteCatalog(COMMANDS, target))).flatMap(({ commands }) => commands);
  for (const [name, { takes }] of Object.entries(REMOTE_COMMANDS)) {
    const command = remote.find(({ usage }) => usage.replace(/\s*[<[].*$/, "") === name);
    assert.ok(command !== undefined, name);
    const flags = (command.options ?? []).map(({ flags }) =>
      /--([a-z-]+)/.exec(flags)![1]!.replaceAll(/-(\w)/g, (_, letter: string) => letter.toUpperCase())
    );
    for (const option of takes) assert.ok(flags.includes(option), `${name}: ${option}`);
  }
});
