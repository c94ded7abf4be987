/** `zenith remote`: names for page servers of other environments. */
import { loadEnvironment } from "../../control/environment.ts";
import { addRemote, listRemotes, type Remote, removeRemote } from "../../control/remotes.ts";
import { type Command, JSON_OPTION, optionText, requiredArg } from "../cli/command.ts";
import { type Column, print, printList } from "../cli/output.ts";

export const remoteAddCommand: Command = {
  usage: "remote add <name> <url>",
  description: "Give another environment's page server a name here",
  options: [
    { flags: "--token <file>", description: "A token that its environment's `token create` has made" },
    { flags: "--ca <file>", description: "The certificate of its authority: auth/tls/ca.pem there" },
  ],
  examples: [
    [
      "remote add central postgres://db1:64000 --token central.token --ca central.pem",
      "Both files are copied",
    ],
  ],
  run(args, options) {
    const [name, url] = [requiredArg(args, 0), requiredArg(args, 1)];
    addRemote(loadEnvironment(), name, url, {
      tokenFile: optionText(options, "token"),
      caFile: optionText(options, "ca"),
    });
    print(`remote ${name} is ${url}`);
    return Promise.resolve();
  },
};

const COLUMNS: readonly Column<Remote>[] = [
  { title: "REMOTE", cell: ({ name }) => name },
  { title: "PAGE SERVER", cell: ({ url }) => url },
];

export const remoteListCommand: Command = {
  usage: "remote list",
  description: "List the page servers of other environments that have names here",
  options: [JSON_OPTION],
  examples: [["remote list", "Name and address"]],
  run(_args, options) {
    printList(listRemotes(loadEnvironment()), COLUMNS, (remote) => ({ ...remote }), options);
    return Promise.resolve();
  },
};

export const remoteRemoveCommand: Command = {
  usage: "remote remove <name>",
  description: "Forget such a name, and the token",
  examples: [["remote remove central", "Nothing changes there"]],
  run(args) {
    const name = requiredArg(args, 0);
    removeRemote(loadEnvironment(), name);
    print(`remote ${name} removed`);
    return Promise.resolve();
  },
};
