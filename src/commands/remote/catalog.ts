/**
 * The command line for a server elsewhere: the same commands, of which some can't be done from
 * here.
 */
import { ZenithError } from "../../common/errors.ts";
import {
  type Command,
  type CommandCatalog,
  commandName,
  type CommandOption,
  JSON_OPTION,
  optionText,
  TENANT_OPTION,
} from "../cli/command.ts";
import { type Column, printList } from "../cli/output.ts";
import { RemoteClient, type ResultOf } from "./client.ts";
import { REMOTE_COMMANDS } from "./commands.ts";
import type { RemoteTarget } from "./target.ts";

/** What concerns no environment. */
const LOCAL: ReadonlySet<string> = new Set(["completion", "complete", "doctor"]);

/** @param catalog the commands for an environment on this machine */
export function remoteCatalog(catalog: readonly CommandCatalog[], target: RemoteTarget): CommandCatalog[] {
  const client = new RemoteClient(target);
  const remote = catalog.map(({ title, commands }) => ({
    title,
    commands: Object.fromEntries(
      Object.entries(commands).map(([name, load]) => [name, async () => remoteCommand(await load(), client)]),
    ),
  }));
  const operations = { "operation list": () => Promise.resolve(operationList(client)) };
  return [...remote, { title: "At the server", commands: operations }];
}

function remoteCommand(command: Command, client: RemoteClient): Command {
  const name = commandName(command);
  if (LOCAL.has(name)) return command;
  const found = Object.hasOwn(REMOTE_COMMANDS, name) ? REMOTE_COMMANDS[name] : undefined;
  return {
    ...command,
    async run(args, options, rest) {
      if (found === undefined) throw notRemote(`"zenith ${name}"`);
      for (const { flags, default: value } of command.options ?? []) {
        const option = nameOf(flags);
        const given = options[option] !== undefined && options[option] !== value;
        if (given && !found.takes.includes(option)) throw notRemote(`${flags.split(" ").at(0)}`);
      }
      if (rest.length > 0) throw notRemote(`what follows "--"`);
      return await found.run(client, args, options);
    },
  };
}

function notRemote(what: string): ZenithError {
  return new ZenithError("not_implemented", `${what} can't be used with --remote`, {
    hint: "do it on the server's machine; docs/serve.md lists what can be done from here",
  });
}

/** `-c, --command <sql>` is `command`, `--keep-as <name>` is `keepAs`. */
function nameOf(flags: string): string {
  const long = flags.replace(/\s*<.*$/, "").split(",").at(-1)!.trim().replace(/^-+/, "");
  return long.replaceAll(/-(\w)/g, (_, letter: string) => letter.toUpperCase());
}

type Operation = ResultOf<"operationList">["items"][number];

const COLUMNS: readonly Column<Operation>[] = [
  { title: "ID", cell: ({ id }) => id },
  { title: "WHAT", cell: ({ action }) => action },
  { title: "BRANCH", cell: ({ branch }) => branch ?? "" },
  { title: "STATUS", cell: ({ status, error }) => error === null ? status : `${status}: ${error}` },
  { title: "BEGUN", cell: ({ created_at }) => created_at },
];

const LIMIT_OPTION: CommandOption = {
  flags: "-n, --lines <number>",
  description: "How many",
  default: "20",
};

function operationList(client: RemoteClient): Command {
  return {
    usage: "operation list",
    description: "List what was done over the API, newest first",
    options: [TENANT_OPTION, LIMIT_OPTION, JSON_OPTION],
    async run(_args, options) {
      const tenant = await client.tenant(options);
      const limit = optionText(options, "lines")!;
      const { items } = await client.call("operationList", { params: { tenant }, query: { limit } });
      printList(items, COLUMNS, (operation) => operation, options);
    },
  };
}
