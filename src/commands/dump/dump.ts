/** `zenith dump wal` and `zenith dump layer`: show the contents of WAL and layer files. */
import { nodeDisk } from "../../common/disk.ts";
import { type Command, optionText, requiredArg } from "../cli/command.ts";
import { print } from "../cli/output.ts";

export const dumpWalCommand: Command = {
  usage: "dump wal <path>",
  description: "Show the records of a WAL segment file, or of a directory of them",
  options: [
    { flags: "--stats", description: "Count the records by type instead" },
    { flags: "--rmgr <names>", description: "Only these resource managers, separated by commas" },
    {
      flags: "--lsn <from..to>",
      description: "Only records that start in that range; either end may be left out",
    },
    { flags: "--json", description: "One JSON object per line" },
  ],
  examples: [
    ["dump wal .zenith/tenants/*/timelines/*/wal --stats", "What a timeline's newest WAL is made of"],
    ["dump wal pg_wal/000000010000000000000001 --rmgr Heap,Btree", "Some records of one file"],
  ],
  async run(args, options) {
    const { dumpWal, parseLsnRange } = await import("./wal.ts");
    const range = optionText(options, "lsn");
    const { from, to } = range === undefined ? { from: undefined, to: undefined } : parseLsnRange(range);
    dumpWal(
      requiredArg(args, 0),
      {
        from,
        to,
        rmgr: optionText(options, "rmgr")?.split(","),
        json: options["json"] === true,
        stats: options["stats"] === true,
      },
      print,
    );
  },
};

export const dumpLayerCommand: Command = {
  usage: "dump layer <file>",
  description: "Show what a layer file holds: its objects and blocks",
  options: [{ flags: "--versions", description: "Every version of each block, too" }],
  examples: [
    ["dump layer .zenith/tenants/*/timelines/*/00000001.layer", "One line per block"],
  ],
  async run(args, options) {
    const { dumpLayer } = await import("../../pagestore/mod.ts");
    for (const line of dumpLayer(nodeDisk, requiredArg(args, 0), options["versions"] === true)) print(line);
  },
};
