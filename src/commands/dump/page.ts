/** `zenith dump page`: shows one page of a relation. */
import { ZenithError } from "../../common/errors.ts";
import { parseBranchName } from "../../common/id.ts";
import { INVALID_LSN, parseLsn } from "../../common/lsn.ts";
import { untilBranchEndArrived } from "../../control/branch_end.ts";
import { chooseTenant, loadEnvironment, pageServerAddress } from "../../control/environment.ts";
import { PageServerClient } from "../../control/page_server_client.ts";
import { parseRelationFile } from "../../control/relation_file.ts";
import { RELSEG_SIZE } from "../../postgres/cluster/relfile.ts";
import { type Command, optionText, requiredArg, TENANT_OPTION } from "../cli/command.ts";
import { print } from "../cli/output.ts";

/** Shows a page as the page server rebuilds it, for finding out why something differs. */
export const dumpPageCommand: Command = {
  usage: "dump page <branch> <file> <block>",
  description: "Show a page as the page server rebuilds it",
  options: [
    TENANT_OPTION,
    { flags: "--lsn <lsn>", description: "As of this LSN; the newest when left out" },
    { flags: "--raw", description: "The 8192 bytes themselves" },
  ],
  completions: ["branch"],
  examples: [
    [
      "dump page main base/13005/16384 0",
      "The newest version; SELECT pg_relation_filepath('t') names the file",
    ],
    ["dump page main base/13005/16384 0 --lsn 0/223C288", "As it was"],
  ],
  async run(args, options) {
    const { readPage } = await import("../../control/read_page.ts");
    const { describePage } = await import("../../postgres/cluster/describe_page.ts");
    const environment = loadEnvironment();
    const tenant = chooseTenant(environment, optionText(options, "tenantid"));
    const branch = parseBranchName(requiredArg(args, 0));
    const { rel, forkNum, segno } = parseRelationFile(requiredArg(args, 1));
    const block = Number(requiredArg(args, 2));
    if (!Number.isInteger(block) || block < 0) {
      throw new ZenithError("invalid_argument", `"${args[2]}" is not a block number`);
    }
    const lsn = optionText(options, "lsn");
    const pageServer = pageServerAddress(environment);
    await using client = new PageServerClient(pageServer);
    const found = await client.branch(tenant, branch);
    if (lsn === undefined) await untilBranchEndArrived(client, tenant, found);
    const page = await readPage(
      pageServer,
      tenant,
      found.timeline_id,
      {
        spc: rel.spcNode,
        db: rel.dbNode,
        rel: rel.relNode,
        fork: forkNum,
        blkno: segno * RELSEG_SIZE + block,
      },
      lsn === undefined ? INVALID_LSN : parseLsn(lsn),
    );
    if (options["raw"] === true) process.stdout.write(page);
    else for (const line of describePage(page)) print(line);
  },
};
