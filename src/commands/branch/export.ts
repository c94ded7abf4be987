/** `zenith export`: writes a branch out as a plain PostgreSQL cluster. */
import { parseBranchName } from "../../common/id.ts";
import { ZenithError } from "../../common/errors.ts";
import { formatLsn } from "../../common/lsn.ts";
import { chooseTenant, loadEnvironment, pageServerAddress } from "../../control/environment.ts";
import { exportBranch, type ExportedCluster } from "../../control/export_branch.ts";
import { DirectorySink, TarSink } from "../../control/export_sink.ts";
import { findSettings } from "../../control/inherited_settings.ts";
import { findPast, parseComputeName } from "../../control/moments.ts";
import { PageServerClient } from "../../control/page_server_client.ts";
import { type Command, JSON_OPTION, optionText, requiredArg, TENANT_OPTION } from "../cli/command.ts";
import { formatBytes, print, printJson, Progress } from "../cli/output.ts";

/** Means standard output. */
const STDOUT = "-";

export const exportCommand: Command = {
  usage: "export <branch>",
  description: "Write a branch, or branch@moment, out as a cluster that stock PostgreSQL starts",
  options: [
    { flags: "--to <directory>", description: "A new or empty directory, or - for a tar on standard output" },
    TENANT_OPTION,
    JSON_OPTION,
  ],
  completions: ["branch"],
  examples: [
    ["export main --to /srv/postgres/main", "With a backup_manifest, as pg_verifybackup reads it"],
    ["export main@-5m --to /tmp/before", "As it was five minutes ago"],
    ["export main --to -", "zenith export main --to - | ssh host tar -xC /srv/postgres/main"],
  ],
  async run(args, options) {
    const environment = loadEnvironment();
    const tenant = chooseTenant(environment, optionText(options, "tenantid"));
    const to = optionText(options, "to");
    if (to === undefined) {
      throw new ZenithError("invalid_argument", "where is the cluster to go?", {
        hint: "for example --to /srv/postgres/main, or --to - for a tar",
      });
    }
    const { branch: name, moment = { kind: "end" } } = parseComputeName(requiredArg(args, 0));
    await using client = new PageServerClient(pageServerAddress(environment));
    const { branch, lsn } = await findPast(client, tenant, name, moment);
    const { files } = await findSettings(client, tenant, await client.branch(tenant, parseBranchName(name)));
    const sink = to === STDOUT ? new TarSink(process.stdout) : new DirectorySink(to);
    const point = { tenant, timeline: branch.timeline_id, lsn };
    const exported = await withProgress((progress) =>
      exportBranch(pageServerAddress(environment), point, files, sink, progress)
    );
    if (to === STDOUT) return;
    if (options["json"] === true) return printJson(exportJson(exported, to));
    print(
      `branch ${name} as of ${formatLsn(exported.lsn)} is in ${to}: PostgreSQL ${exported.pgMajor}, ${
        formatBytes(exported.bytes)
      }`,
    );
    for (const [oid, location] of exported.tablespaces) {
      if (location !== "") print(`tablespace ${oid} is in ${to}/pg_tblspc/${oid}, not at ${location}`);
    }
  },
};

async function withProgress<T>(work: (progress: (bytes: number) => void) => Promise<T>): Promise<T> {
  using shown = new Progress("exporting");
  return await work((bytes) => {
    // In a log, each step would be a line.
    if (process.stderr.isTTY) shown.update(`exporting, ${formatBytes(bytes)} written`);
  });
}

function exportJson(exported: ExportedCluster, directory: string): Record<string, unknown> {
  return {
    directory,
    pg_version: exported.pgMajor,
    system_id: String(exported.systemIdentifier),
    lsn: formatLsn(exported.lsn),
    files: exported.files,
    bytes: exported.bytes,
    tablespaces: [...exported.tablespaces].map(([oid, location]) => ({ oid, location })),
  };
}
