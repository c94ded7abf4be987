import { nodeDisk } from "../../common/disk.ts";
import { ZenithError } from "../../common/errors.ts";
import { PageServerPaths } from "../../common/paths.ts";
import { checkPidFile } from "../../process/pid_file.ts";
import { type Command, EXIT_FAILED, JSON_OPTION, requiredArg } from "../cli/command.ts";
import { type Column, formatBytes, printList, Progress } from "../cli/output.ts";
import type { DataCheck } from "../../pageserver/service/fsck.ts";

const COLUMNS: readonly Column<DataCheck>[] = [
  { title: "DIRECTORY", cell: ({ path }) => path },
  { title: "LAYERS", cell: ({ counts }) => String(counts?.layers ?? "-") },
  { title: "VERSIONS", cell: ({ counts }) => String(counts?.versions ?? "-") },
  { title: "SIZE", cell: ({ counts }) => counts === null ? "-" : formatBytes(counts.bytes) },
  {
    title: "STATE",
    cell: ({ problems, strays }) => {
      const left = strays.length === 0 ? "" : `, ${strays.length} left by a crash`;
      return (problems.length === 0 ? "sound" : `DAMAGED (${problems.length})`) + left;
    },
  },
];

export const fsckCommand: Command = {
  usage: "fsck <dir>",
  description: "Check a page server's files: every block of every layer, and what names what",
  options: [JSON_OPTION],
  examples: [
    [
      "fsck .zenith",
      "All tenants of a page server that is stopped; the exit code is 1 when anything is wrong",
    ],
    ["fsck .zenith/tenants/*/timelines/*", "One timeline"],
  ],
  async run(args, options) {
    const { checkData } = await import("../../pageserver/service/fsck.ts");
    const dir = requiredArg(args, 0);
    assertStopped(dir);
    const checks: DataCheck[] = [];
    {
      using progress = new Progress(`checking ${dir}`);
      for (const check of checkData(nodeDisk, dir)) {
        progress.update(`checking: ${check.path} is read`);
        checks.push(check);
      }
    }
    printList(checks, COLUMNS, ({ counts, ...check }) => ({ ...check, ...counts }), options);
    const problems = checks.flatMap((check) => check.problems);
    for (const problem of problems) process.stderr.write(`zenith: ${problem}\n`);
    return problems.length === 0 ? 0 : EXIT_FAILED;
  },
};

function assertStopped(workdir: string): void {
  const found = checkPidFile(new PageServerPaths(workdir).pidFile);
  if (found.state !== "running") return;
  throw new ZenithError("conflict", `a page server, process ${found.process.pid}, works in ${workdir}`, {
    hint: '"zenith stop" stops it',
  });
}
