/** A real page server process for benchmarks, in a directory that can be copied to begin again from the same state. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Readable } from "node:stream";
import { startDaemon } from "../../../src/process/daemon.ts";
import { ZenithError } from "../../../src/common/errors.ts";
import type { HostPort } from "../../../src/common/host_port.ts";
import { generateTenantId, type TenantId, type TimelineId } from "../../../src/common/id.ts";
import type { Lsn } from "../../../src/common/lsn.ts";
import { unpackBasebackup } from "../../../src/compute/postgres/data_directory.ts";
import { chownRecursive, makeOwnedDirectory, pgUser } from "../../../src/pg_install/pg_user.ts";
import { PgClient } from "../../../src/pgwire/client.ts";
import { TEST_PG_MAJOR } from "../../harness/postgres_major.ts";
import { PageStream } from "./page_stream.ts";

const START_TIMEOUT_MS = 60_000;
const STOP_POLL_MS = 10;
/** Longer than any round takes. */
const WAIT_LSN_TIMEOUT_MS = 600_000;

/** The one timeline that a benchmark works with. */
export interface BenchTimeline {
  readonly tenant: TenantId;
  readonly timeline: TimelineId;
}

export class BenchPageServer implements AsyncDisposable {
  readonly address: HostPort;
  readonly pid: number;
  #stopped = false;

  private constructor(address: HostPort, pid: number) {
    this.address = address;
    this.pid = pid;
  }

  /** Starts a page server with the defaults' memory on a free port. `dir` is made unless it is there. */
  static async start(dir: string): Promise<BenchPageServer> {
    if (!existsSync(dir)) mkdirSync(dir, { recursive: true });
    writeFileSync(join(dir, "pageserver.toml"), `wait_lsn_timeout_ms = ${WAIT_LSN_TIMEOUT_MS}\n`);
    const logFile = join(dir, "pageserver.log");
    const { pid, address } = await startDaemon({
      args: ["pageserver", "-D", dir, "-l", "127.0.0.1:0", "--insecure", "--log-file", logFile],
      logFile,
      timeoutMs: START_TIMEOUT_MS,
    });
    if (address === undefined) {
      throw new ZenithError("protocol", "the page server does not say where it listens");
    }
    return new BenchPageServer(address, pid);
  }

  connect(): Promise<PgClient> {
    return PgClient.connect({ ...this.address, user: "zenith_admin", database: "zenith" });
  }

  /** Runs one command; the JSON that it answers with, null when it answers with none. */
  async command(sql: string): Promise<unknown> {
    await using client = await this.connect();
    const cell = (await client.query(sql)).rows[0]?.[0];
    return cell === undefined || cell === null ? null : JSON.parse(cell);
  }

  /** A new tenant and its `main` branch. */
  async createTenant(): Promise<BenchTimeline> {
    const tenant = generateTenantId();
    // What the references run; the newest would be another one.
    await this.command(`tenant_create ${tenant} pg_version=${TEST_PG_MAJOR}`);
    const branches = await this.command(`branch_list ${tenant}`) as { timeline_id: TimelineId }[];
    return { tenant, timeline: branches[0].timeline_id };
  }

  /** Unpacks a data directory at the timeline's end to `pgdata`, ready for Postgres but for its configuration. */
  async basebackup({ tenant, timeline }: BenchTimeline, pgdata: string): Promise<void> {
    makeOwnedDirectory(pgdata, pgUser());
    await using client = await this.connect();
    const tar = Readable.from(client.copyOut(`basebackup ${tenant} ${timeline}`), { objectMode: false });
    await unpackBasebackup(tar, pgdata, pgUser());
    chownRecursive(pgdata, pgUser());
  }

  /** Makes it pull WAL from `connInfo`. */
  async receiveFrom({ tenant, timeline }: BenchTimeline, connInfo: string): Promise<void> {
    await this.command(`callmemaybe ${tenant} ${timeline} ${connInfo}`);
  }

  /** Returns when `lsn` can be read: a read at it waits in the page server, nobody polls. */
  async untilReadable(timeline: BenchTimeline, lsn: Lsn): Promise<void> {
    await using pages = await PageStream.open(this, timeline);
    await pages.untilReadable(lsn);
  }

  /** The most memory that it has had so far. */
  peakRssBytes(): number {
    const match = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${this.pid}/status`, "utf8"));
    return match === null ? NaN : Number(match[1]) * 1024;
  }

  /** CPU time of all its threads so far. */
  cpuSeconds(): number {
    // Fields 14 and 15 of proc(5) stat, behind the name in parentheses: ticks of 1/100 s.
    const stat = readFileSync(`/proc/${this.pid}/stat`, "utf8");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return (Number(fields[11]) + Number(fields[12])) / 100;
  }

  /** Ends it. @param signal SIGKILL leaves its files as they are, where SIGTERM would write everything out first */
  async stop(signal: "SIGTERM" | "SIGKILL" = "SIGTERM"): Promise<void> {
    if (this.#stopped) return;
    this.#stopped = true;
    try {
      process.kill(this.pid, signal);
      for (;;) {
        process.kill(this.pid, 0);
        await new Promise((resolve) => setTimeout(resolve, STOP_POLL_MS));
      }
    } catch {
      // It is gone.
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop("SIGKILL");
  }
}
