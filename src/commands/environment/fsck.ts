/** `zenith fsck`: checks the files of page servers and safekeepers at rest. */
import { dirname, join, resolve } from "node:path";
import type { DataCheck } from "../../common/data_check.ts";
import { nodeDisk } from "../../common/disk.ts";
import { ZenithError } from "../../common/errors.ts";
import { EnvironmentPaths, PageServerPaths, SafekeeperPaths } from "../../common/paths.ts";
import { checkPidFile, runsElsewhere } from "../../process/pid_file.ts";
import { type Command, EXIT_FAILED, JSON_OPTION, requiredArg } from "../cli/command.ts";
import { type Column, formatBytes, printList, Progress } from "../cli/output.ts";

const COLUMNS: readonly Column<DataCheck>[] = [
  { title: "DIRECTORY", cell: ({ path }) => path },
  { title: "LAYERS", cell: ({ counts }) => String(counts?.layers ?? "-") },
  { title: "VERSIONS", cell: ({ counts }) => String(counts?.versions ?? "-") },
  { title: "SIZE", cell: ({ counts }) => counts === null ? "-" : formatBytes(counts.bytes) },
  { title: "WAL", cell: ({ walBytes }) => walBytes === null ? "-" : formatBytes(walBytes) },
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
  description: "Check the files of page servers and safekeepers: layers, WAL, names",
  options: [JSON_OPTION],
  examples: [
    [
      "fsck .zenith",
      "A page server and its safekeepers, all stopped; the exit code is 1 when anything is wrong",
    ],
    ["fsck .zenith/tenants/*/timelines/*", "One timeline"],
    ["fsck .zenith/safekeepers/1", "One safekeeper"],
  ],
  async run(args, options) {
    const dir = requiredArg(args, 0);
    const checks: DataCheck[] = [];
    {
      using progress = new Progress(`checking ${dir}`);
      for await (const check of checksOf(dir)) {
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

/**
 * Checks a directory of either kind of server. An environment's directory is that of its page
 * server, and contains those of its safekeepers.
 */
async function* checksOf(dir: string): AsyncGenerator<DataCheck> {
  const { checkData } = await import("../../pageserver/service/fsck.ts");
  const { checkSafekeeperData, holdsSafekeeperTimelines } = await import("../../safekeeper/fsck.ts");
  const environment = new EnvironmentPaths(dir);
  if (nodeDisk.statSync(environment.pageserver.tenants) === null && holdsSafekeeperTimelines(nodeDisk, dir)) {
    assertSafekeeperStopped(dir);
    yield* checkSafekeeperData(nodeDisk, dir);
    return;
  }
  const { safekeepers } = environment;
  const hasSafekeepers = nodeDisk.statSync(safekeepers)?.isDirectory === true;
  const names = hasSafekeepers ? nodeDisk.readdirSync(safekeepers).sort() : [];
  const directories = names.map((name) => join(safekeepers, name));
  assertStopped("page server", new PageServerPaths(dir).pidFile);
  for (const directory of directories) assertSafekeeperStopped(directory);
  yield* checkData(nodeDisk, dir);
  for (const directory of directories) yield* checkSafekeeperData(nodeDisk, directory);
}

/** @param dir a safekeeper's directory, or that of a tenant or timeline inside it */
function assertSafekeeperStopped(dir: string): void {
  for (const workdir of [dir, join(dir, ".."), join(dir, "../..")].map((path) => resolve(path))) {
    assertStopped("safekeeper", new SafekeeperPaths(workdir).pidFile);
  }
}

function assertStopped(role: string, pidFile: string): void {
  const found = checkPidFile(pidFile);
  if (found.state === "elsewhere") throw runsElsewhere(`a ${role}`, pidFile);
  if (found.state !== "running") return;
  throw new ZenithError("conflict", `a ${role}, process ${found.process.pid}, works in ${dirname(pidFile)}`, {
    hint: '"zenith stop" stops it',
  });
}
