/**
 * The conformance suite: our redo against PostgreSQL's own pages.
 *
 *   bun tests/conformance/main.ts [--schedule own|images|regress|isolation|all] [--before redo|image] [--pg-source <dir>]
 *     [--seconds <n>] [--port <n>] [--keep] [--only <file.sql>] [--pg-version <major>] [--damage <seconds>] [--seed <n>]
 *
 * A stock server logs with wal_consistency_checking each page as it is after each change. The suite runs a schedule there,
 * applies all its WAL with our redo, and compares. It prints a table by record type and fails when a single page differs.
 * With `--damage` it then damages a sample of the records and pages for that long, see damage.ts.
 */
import { rmSync } from "node:fs";
import { parseArgs } from "node:util";
import { pgVersion } from "../../src/postgres/versions/find_version.ts";
import { Checker, type PageBefore } from "./checker.ts";
import { StockCluster } from "./cluster.ts";
import { DamageSamples } from "./damage.ts";
import { ClusterPages } from "./pages.ts";
import { runChecked } from "./run_checked.ts";
import { Report } from "./report.ts";
import {
  imagesSchedule,
  isolationSchedule,
  ownSchedule,
  regressSchedule,
  type Schedule,
  SECONDS,
} from "./schedules.ts";

const { values: options } = parseArgs({
  options: {
    schedule: { type: "string", default: "own" },
    before: { type: "string", default: "redo" },
    "pg-source": { type: "string" },
    port: { type: "string", default: "57200" },
    keep: { type: "boolean", default: false },
    only: { type: "string" },
    seconds: { type: "string", default: String(SECONDS) },
    "pg-version": { type: "string", default: "15" },
    damage: { type: "string" },
    seed: { type: "string", default: String(Date.now() % 1_000_000) },
  },
});

const pg = pgVersion(Number(options["pg-version"]));
const report = new Report(pg);
const samples = options.damage === undefined ? undefined : new DamageSamples(pg);

async function check(schedule: Schedule, before: PageBefore): Promise<void> {
  const cluster = await StockCluster.create(schedule.name, Number(options.port), schedule.settings, pg.major);
  const [records, mismatches] = [report.records, report.mismatches];
  try {
    const checker = new Checker(
      pg,
      new ClusterPages(cluster.baseDir),
      report,
      before,
      samples?.observe.bind(samples),
    );
    const started = performance.now();
    await runChecked(cluster, schedule, (rec) => checker.apply(rec));
    checker.compareFiles(cluster.dataDir);
    console.log(
      `schedule ${schedule.name}: ${report.records - records} records in ${seconds(started)} s, ` +
        `${report.mismatches - mismatches} mismatches`,
    );
  } finally {
    cluster.stop("immediate");
    if (options.keep) console.log(`kept: ${cluster.dir}`);
    else rmSync(cluster.dir, { recursive: true, force: true });
  }
}

function seconds(since: number): string {
  return ((performance.now() - since) / 1000).toFixed(1);
}

function schedules(): Schedule[] {
  const own = () => ownSchedule(options.only, Number(options.seconds));
  switch (options.schedule) {
    case "own":
      return [own()];
    case "images":
      return [imagesSchedule()];
    case "regress":
      return [regressSchedule(options["pg-source"])];
    case "isolation":
      return [isolationSchedule(options["pg-source"])];
    case "all":
      return [
        own(),
        imagesSchedule(),
        regressSchedule(options["pg-source"]),
        isolationSchedule(options["pg-source"]),
      ];
    default:
      throw new Error(`--schedule ${options.schedule}: expected own, images, regress, isolation or all`);
  }
}

function pageBefore(): PageBefore {
  if (options.before === "redo" || options.before === "image") return options.before;
  throw new Error(`--before ${options.before}: expected redo or image`);
}

for (const schedule of schedules()) await check(schedule, pageBefore());
report.print(console.log);
console.log(`${report.records} records, ${report.mismatches} mismatches, pages before: ${pageBefore()}`);
samples?.applyDamaged(Number(options.damage), Number(options.seed));
process.exitCode = report.mismatches === 0 ? 0 : 1;
