/** Every command line that the help, README or the documents show is one that the command line takes. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { commandName, loadCommands } from "../../../../src/commands/cli/command.ts";
import { COMMANDS } from "../../../../src/commands/registry.ts";
import { parseCommand } from "../../../harness/parsed_command.ts";

const ROOT = join(import.meta.dirname!, "..", "..", "..", "..");

/** The words of a shell's line up to where another command, a redirection or a comment begins. */
function shellWords(line: string): string[] {
  const words: string[] = [];
  let word: string | undefined;
  for (let at = 0; at < line.length; at++) {
    const character = line[at];
    if (character === "'" || character === '"') {
      const end = line.indexOf(character, at + 1);
      if (end < 0) break;
      word = (word ?? "") + line.slice(at + 1, end);
      at = end;
    } else if (/\s/.test(character)) {
      if (word !== undefined) words.push(word);
      word = undefined;
    } else if (/[|;&>)]/.test(character) || (character === "#" && word === undefined)) {
      break;
    } else word = (word ?? "") + character;
  }
  return word === undefined ? words : [...words, word];
}

interface Line {
  readonly where: string;
  readonly text: string;
}

/** What stands behind a command line in two columns is said of it, and no part of it. */
function withoutRemark(text: string): string {
  return text.replace(/ {2,}\S.*$/, "");
}

/** Lines of fenced blocks that begin with `zenith`, after a prompt or not. */
function commandLines(file: string): Line[] {
  const lines: Line[] = [];
  let fenced = false;
  readFileSync(join(ROOT, file), "utf8").split("\n").forEach((line, i) => {
    if (/^\s*```/.test(line)) fenced = !fenced;
    const match = /^\s*(?:[$#] )?zenith (.*)$/.exec(line);
    if (fenced && match !== null) lines.push({ where: `${file}:${i + 1}`, text: withoutRemark(match[1]) });
  });
  return lines;
}

/** The shortest line that a synopsis stands for. */
function simplest(synopsis: string): string {
  let text = synopsis.replaceAll(/…|\\\|\S*/g, "");
  for (let before = ""; before !== text;) {
    before = text;
    text = text.replaceAll(/\[[^[\]]*\]/g, "");
  }
  return text.replaceAll(/<[^<>]*>/g, "x");
}

const DOCUMENTS = [
  "README.md",
  ...readdirSync(join(ROOT, "docs")).filter((name) => name.endsWith(".md")).map((name) => `docs/${name}`),
];

describe("a command line", () => {
  test("finds each command under its own name", async () => {
    for (const [name, load] of COMMANDS.flatMap(({ commands }) => Object.entries(commands))) {
      assert.equal(commandName(await load()), name);
    }
  });

  test("that the help shows as an example is taken, by the command it is shown for", async () => {
    for (const command of (await loadCommands(COMMANDS)).flatMap(({ commands }) => commands)) {
      for (const [line] of command.examples ?? []) {
        const found = await parseCommand(shellWords(line)).catch((error) =>
          assert.fail(`zenith ${line}: ${error.message}`)
        );
        assert.equal(found?.name, commandName(command), line);
      }
    }
  });

  test("that README or a document shows is taken", async () => {
    const lines = DOCUMENTS.flatMap(commandLines);
    assert.ok(lines.length > 40, `only ${lines.length} are found`);
    for (const { where, text } of lines) {
      // What <angle> brackets stand for is the reader's to fill in.
      const words = shellWords(text.replaceAll(/<[^<>]+>/g, "0".repeat(32)));
      await parseCommand(words).catch((error) => assert.fail(`${where}: zenith ${text}: ${error.message}`));
    }
  });

  test("that is named in a sentence exists, with its options", async () => {
    let count = 0;
    for (const file of DOCUMENTS) {
      const prose = readFileSync(join(ROOT, file), "utf8").replace(/```.*?```/gs, "");
      for (const [, text] of prose.matchAll(/`zenith ([a-z][^`\n]*)`/g)) {
        count++;
        // A sentence may leave the arguments out, a synopsis has them in brackets.
        await parseCommand(shellWords(simplest(text))).catch((
          error,
        ) => assert.match(error.message, /missing required args/, `${file}: zenith ${text}`));
      }
    }
    assert.ok(count > 40, `only ${count} are found`);
  });
});
