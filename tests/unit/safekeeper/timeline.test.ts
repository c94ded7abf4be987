import { describe, test } from "node:test";
import assert from "node:assert/strict";
import { join } from "node:path";
import { parseTenantId, parseTimelineId } from "../../../src/common/id.ts";
import { NULL_LOGGER } from "../../../src/process/log.ts";
import type { Lsn } from "../../../src/common/lsn.ts";
import { SafekeeperPaths } from "../../../src/common/paths.ts";
import type {
  AcceptorMessage,
  AppendResponse,
  ProposerMessage,
  TimelineIdentity,
} from "../../../src/consensus/messages.ts";
import { WAL_ACCEPTOR_PROTOCOL_VERSION } from "../../../src/consensus/messages.ts";
import { historyTerm, startTerm, type TermHistory } from "../../../src/consensus/term_history.ts";
import { buildSegmentHead } from "../../../src/postgres/segment_head.ts";
import { V15 } from "../../../src/postgres/versions/v15.ts";
import type { SafekeeperTimeline } from "../../../src/safekeeper/timeline.ts";
import { Timelines } from "../../../src/safekeeper/timelines.ts";
import { FaultyDisk } from "../../harness/faulty_disk.ts";
import { Random, seeds } from "../../harness/random.ts";
import { lastRecord, WalBuilder } from "../../harness/wal_builder.ts";

const SEGMENT = 1 << 20;
const START = (SEGMENT * 2 + 8192 + 256) as Lsn;
const IDENTITY: TimelineIdentity = {
  tenantId: parseTenantId("aa".repeat(16)),
  timelineId: parseTimelineId("bb".repeat(16)),
  systemId: 7000000000000000001n,
  pgVersion: 15,
  segmentSize: SEGMENT,
};
const SERVER_INFO: ProposerMessage = {
  type: "ServerInfo",
  protocolVersion: WAL_ACCEPTOR_PROTOCOL_VERSION,
  proposerId: "cc".repeat(16),
  ...IDENTITY,
};

function openTimelines(disk: FaultyDisk): Timelines {
  return new Timelines({
    paths: new SafekeeperPaths("/safekeeper"),
    disk,
    id: 1,
    sync: true,
    logger: NULL_LOGGER,
  });
}

/** A log that a proposer may have: whole records from START on. */
interface Log {
  readonly history: TermHistory;
  readonly bytes: Uint8Array;
  /** Record boundaries, START first. */
  readonly boundaries: readonly Lsn[];
}

const EMPTY_LOG: Log = { history: [], bytes: new Uint8Array(0), boundaries: [START] };

function endOf(log: Log): Lsn {
  return log.boundaries.at(-1)!;
}

function cutLog(log: Log, lsn: Lsn): Log {
  return {
    ...log,
    bytes: log.bytes.subarray(0, lsn - START),
    boundaries: log.boundaries.filter((boundary) => boundary <= lsn),
  };
}

function extended(log: Log, random: Random): Log {
  const end = endOf(log);
  const builder = new WalBuilder({
    startLsn: end,
    segmentSize: SEGMENT,
    prev: lastRecord(log.boundaries, SEGMENT) ?? START - 64,
  });
  const boundaries = [...log.boundaries];
  for (let i = 1 + random.int(4); i > 0; i--) {
    const main = new Uint8Array(4 + (random.oneIn(4) ? random.int(500_000) : random.int(500))).fill(
      1 + random.int(255),
    );
    main.set(random.bytes(4));
    boundaries.push(builder.record({ main }).endLsn);
  }
  const added = builder.bytes.subarray(end - builder.from);
  const bytes = new Uint8Array(log.bytes.length + added.length);
  bytes.set(log.bytes);
  bytes.set(added, log.bytes.length);
  return { ...log, bytes, boundaries };
}

/** A proposer's connection, made of plain calls. */
class Connection {
  readonly timeline: SafekeeperTimeline;
  readonly #session: number;
  readonly #answers: AcceptorMessage[] = [];
  refusedWith: unknown;

  constructor(timeline: SafekeeperTimeline) {
    this.timeline = timeline;
    this.#session = timeline.attach({
      send: (message) => this.#answers.push(message),
      refuse: (error) => this.refusedWith ??= error,
    });
  }

  disconnect(): void {
    this.timeline.detach(this.#session);
  }

  send(message: ProposerMessage): void {
    this.timeline.receive(this.#session, message);
  }

  /** The next answer that `wanted` accepts. @throws what the connection was refused with */
  async answer<T extends AcceptorMessage>(wanted: (message: AcceptorMessage) => message is T): Promise<T> {
    for (;;) {
      for (let message; (message = this.#answers.shift()) !== undefined;) {
        if (wanted(message)) return message;
      }
      if (this.refusedWith !== undefined) throw this.refusedWith;
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  async vote(term: number): Promise<Extract<AcceptorMessage, { type: "VoteResponse" }>> {
    this.send({ type: "VoteRequest", term });
    return await this.answer((message) => message.type === "VoteResponse");
  }

  async elected(term: number, log: Log, startLsn: Lsn): Promise<AppendResponse> {
    this.send({ type: "ProposerElected", term, startLsn, timelineStartLsn: START, history: log.history });
    return await this.answer((message) => message.type === "AppendResponse");
  }

  /** Sends `log` from `from` on, in pieces, and waits until all of it is confirmed. */
  async append(term: number, log: Log, from: Lsn, commitLsn: Lsn, random: Random): Promise<void> {
    for (let at: number = from; at < endOf(log);) {
      const len = Math.min(1 + random.int(400_000), endOf(log) - at);
      this.send({
        type: "AppendRequest",
        term,
        beginLsn: at as Lsn,
        commitLsn,
        truncateLsn: 0 as Lsn,
        remoteConsistentLsn: 0 as Lsn,
        bytes: log.bytes.slice(at - START, at - START + len),
      });
      at += len;
    }
    await this.answer((message): message is AppendResponse =>
      message.type === "AppendResponse" && message.flushLsn === endOf(log)
    );
  }
}

async function connect(timelines: Timelines): Promise<Connection> {
  const connection = new Connection(await timelines.getOrCreate(IDENTITY));
  connection.send(SERVER_INFO);
  await connection.answer((message) => message.type === "Greeting");
  return connection;
}

/** What was promised to proposers. */
interface Promised {
  term: number;
  historyTerm: number;
  flushLsn: Lsn;
  commitLsn: Lsn;
  /** The logs that may be there: the last one that was confirmed, or the one that was about to be. */
  logs: Log[];
}

/** Elections, cuts and appends, until the disk fails. */
async function live(timelines: Timelines, promised: Promised, random: Random): Promise<void> {
  const connection = await connect(timelines);
  for (let i = 0; i < 4; i++) {
    const term = promised.term + 1 + random.int(2);
    const vote = await connection.vote(term);
    assert.equal(vote.granted, true);
    promised.term = term;
    const flushLsn = Math.max(vote.flushLsn, START);
    const current = promised.logs.find((log) => endOf(log) >= flushLsn && hasHistory(log, vote.history))!;
    // Another acceptor's log was ahead: of this one's, what is not committed may have to go.
    const candidates = current.boundaries.filter((lsn) => lsn >= promised.commitLsn && lsn <= flushLsn);
    const startLsn = candidates[random.int(candidates.length)];
    const kept = cutLog(current, startLsn);
    let log: Log = { ...kept, history: startTerm(kept.history, startLsn, term) };
    promised.logs = [current, log];
    promised.flushLsn = Math.min(promised.flushLsn, startLsn) as Lsn;
    const confirmed = await connection.elected(term, log, startLsn);
    assert.equal(confirmed.historyTerm, term);
    promised.historyTerm = term;
    promised.logs = [log];
    promised.flushLsn = startLsn;
    for (let j = random.int(3); j > 0; j--) {
      const from = endOf(log);
      log = extended(log, random);
      promised.logs = [log];
      await connection.append(term, log, from, promised.commitLsn, random);
      promised.flushLsn = endOf(log);
      if (random.oneIn(2)) promised.commitLsn = promised.flushLsn;
    }
  }
}

function hasHistory(log: Log, history: TermHistory): boolean {
  return historyTerm(log.history) === historyTerm(history);
}

/** Opened again, it remembers what it has promised. */
async function checkPromises(timelines: Timelines, promised: Promised): Promise<void> {
  const { state, walStore } = await timelines.getOrCreate(IDENTITY);
  assert.ok(state.term >= promised.term, `term ${state.term} after a vote in ${promised.term}`);
  assert.ok(
    historyTerm(state.history) >= promised.historyTerm,
    "the history is not older than what was confirmed",
  );
  assert.ok(state.flushLsn >= promised.flushLsn, `WAL up to ${promised.flushLsn} was confirmed`);
  if (walStore === undefined) return;
  const found = new Uint8Array(state.flushLsn - START);
  walStore.read(START, found, 0, found.length);
  const isKnown = promised.logs.some((log) =>
    log.boundaries.includes(state.flushLsn) && hasHistory(log, state.history) &&
    Buffer.from(found).equals(log.bytes.subarray(0, found.length))
  );
  assert.ok(isKnown, "the log is one that was sent, with the history that belongs to it");
}

describe("a safekeeper's timeline", () => {
  /** What a timeline that was just opened says of itself is as good as said to a proposer. */
  async function promise(timelines: Timelines, promised: Promised): Promise<void> {
    await checkPromises(timelines, promised);
    const { state } = await timelines.getOrCreate(IDENTITY);
    promised.term = state.term;
    promised.historyTerm = historyTerm(state.history);
    promised.logs = promised.logs.filter((log) => hasHistory(log, state.history)).slice(0, 1)
      .map((log) => cutLog(log, state.flushLsn > 0 ? state.flushLsn : START));
    promised.flushLsn = state.flushLsn;
  }

  for (const isKilledFirst of [false, true]) {
    const what = isKilledFirst
      ? "it is killed at any operation, opened, and the power goes"
      : "the power goes at any operation";
    for (const seed of seeds(60)) {
      test(`keeps its promises when ${what} (ZENITH_SEED=${seed})`, async () => {
        const random = new Random(seed);
        const disk = new FaultyDisk(random);
        disk.mkdirsSync("/safekeeper");
        disk.fsyncDirSync("/");
        const promised: Promised = {
          term: 0,
          historyTerm: 0,
          flushLsn: 0 as Lsn,
          commitLsn: START,
          logs: [EMPTY_LOG],
        };
        for (let life = 0; life < 3; life++) {
          disk.failAt(1 + random.int(70), { kind: "crash" });
          const timelines = openTimelines(disk);
          try {
            await live(timelines, promised, random);
          } catch (error) {
            if (!disk.faulted) throw error;
          }
          if (isKilledFirst) {
            disk.kill();
            await promise(openTimelines(disk), promised);
          }
          disk.crash();
          const reopened = openTimelines(disk);
          await promise(reopened, promised);
          await reopened.close();
        }
      });
    }
  }

  async function electedConnection(
    disk: FaultyDisk,
  ): Promise<{ timelines: Timelines; connection: Connection; log: Log }> {
    disk.mkdirsSync("/safekeeper");
    const timelines = openTimelines(disk);
    const connection = await connect(timelines);
    await connection.vote(1);
    const log: Log = { ...EMPTY_LOG, history: startTerm([], START, 1) };
    await connection.elected(1, log, START);
    return { timelines, connection, log };
  }

  test("is found, closed and deleted whatever else lies in the safekeeper's directory", async () => {
    const disk = new FaultyDisk(new Random(6));
    const { timelines } = await electedConnection(disk);
    const damaged = parseTimelineId("dd".repeat(16));
    const { tenantId } = IDENTITY;
    const paths = new SafekeeperPaths("/safekeeper");
    for (const path of ["ee".repeat(16), "notes.txt", `${tenantId}/notes.deleted`]) {
      disk.openSync(join("/safekeeper", path), "create").closeSync();
    }
    disk.mkdirSync(paths.timeline(tenantId, damaged));
    disk.openSync(paths.controlFile(tenantId, damaged), "create").closeSync();
    timelines.recover();
    assert.deepEqual(timelines.list().map(({ timelineId }) => timelineId), [IDENTITY.timelineId, damaged]);
    const { opened, failed } = await timelines.openAll();
    assert.deepEqual(opened.map(({ identity }) => identity.timelineId), [IDENTITY.timelineId]);
    assert.deepEqual(failed.map(({ name }) => name.timelineId), [damaged]);
    assert.equal(await timelines.delete({ tenantId, timelineId: damaged }), true);
    assert.deepEqual(timelines.list().map(({ timelineId }) => timelineId), [IDENTITY.timelineId]);
    await timelines.close();
  });

  test("refuses a proposer while the disk is full, and takes WAL again when there is space", async () => {
    const random = new Random(1);
    const disk = new FaultyDisk(random);
    const { timelines, connection, log } = await electedConnection(disk);
    const longer = extended(log, random);
    disk.failAt(1, { kind: "error", code: "ENOSPC" });
    await assert.rejects(connection.append(1, longer, START, START, random), { kind: "disk_full" });
    disk.noFault();
    const again = await connect(timelines);
    assert.equal(again.timeline, connection.timeline, "the timeline lives on");
    await again.append(1, longer, START, START, random);
    assert.equal(again.timeline.state.flushLsn, endOf(longer));
    await timelines.close();
  });

  test("can be put away while the disk is full: only lower bounds are not written", async () => {
    const random = new Random(3);
    const disk = new FaultyDisk(random);
    const { timelines, connection, log } = await electedConnection(disk);
    const longer = extended(log, random);
    await connection.append(1, longer, START, START, random);
    const end = endOf(longer);
    connection.send({
      type: "AppendRequest",
      term: 1,
      beginLsn: end,
      commitLsn: end,
      truncateLsn: START,
      remoteConsistentLsn: end,
      bytes: new Uint8Array(0),
    });
    assert.equal(connection.timeline.state.commitLsn, end);
    connection.disconnect();
    disk.failAt(1, { kind: "error", code: "ENOSPC", lasting: true });
    await timelines.unloadIdle();
    assert.equal(disk.faulted, true);
    assert.deepEqual(await timelines.loaded(), []);
    disk.noFault();
    assert.equal((await connect(timelines)).timeline.state.flushLsn, end);
    await timelines.close();
  });

  test("after a failed sync trusts only what was durable before", async () => {
    const random = new Random(2);
    const disk = new FaultyDisk(random);
    const { timelines, connection, log } = await electedConnection(disk);
    const first = extended(log, random);
    await connection.append(1, first, START, START, random);
    const second = extended(first, random);
    const bytes = second.bytes.slice(first.bytes.length);
    const append = (to: Connection): void =>
      to.send({
        type: "AppendRequest",
        term: 1,
        beginLsn: endOf(first),
        commitLsn: START,
        truncateLsn: 0 as Lsn,
        remoteConsistentLsn: 0 as Lsn,
        bytes,
      });
    append(connection);
    disk.failAt(1, { kind: "error", code: "EIO" });
    await assert.rejects(connection.answer((message) => message.type === "AppendResponse"), { kind: "io" });
    disk.noFault();

    const again = await connect(timelines);
    assert.notEqual(again.timeline, connection.timeline);
    assert.equal(
      again.timeline.state.flushLsn,
      endOf(first),
      "what a read still finds behind does not count",
    );
    append(again);
    await again.answer((message): message is AppendResponse =>
      message.type === "AppendResponse" && message.flushLsn === endOf(second)
    );
    await timelines.close();
  });

  test("refuses what is not WAL, and keeps what it had", async () => {
    const random = new Random(3);
    const disk = new FaultyDisk(random);
    const { timelines, connection, log } = await electedConnection(disk);
    const longer = extended(log, random);
    await connection.append(1, longer, START, START, random);
    const garbage = {
      ...longer,
      bytes: new Uint8Array(longer.bytes.length + 64),
      boundaries: [...longer.boundaries],
    };
    garbage.bytes.set(longer.bytes);
    garbage.bytes.fill(0x77, longer.bytes.length);
    garbage.boundaries.push((endOf(longer) + 64) as Lsn);
    await assert.rejects(connection.append(1, garbage, endOf(longer), START, random), {
      kind: "corrupt_data",
    });
    const again = await connect(timelines);
    const more = extended(longer, random);
    await again.append(1, more, endOf(longer), START, random);
    assert.equal(again.timeline.state.flushLsn, endOf(more));
    await timelines.close();
  });

  test("shows a first segment from its beginning, though the file has little of that", async () => {
    const random = new Random(6);
    const { timelines, connection, log } = await electedConnection(new FaultyDisk(random));
    const sent = extended(log, random);
    await connection.append(1, sent, START, START, random);
    const from = SEGMENT * 2;
    const whole = new Uint8Array(endOf(sent) - from);
    whole.set(buildSegmentHead(V15, START, SEGMENT, IDENTITY.systemId));
    whole.set(sent.bytes, START - from);
    for (const at of [0, 10, 8191, 8192, 8200, 8192 + 255, 8192 + 256]) {
      for (const to of [at + 1, 8192, 8192 + 10, 8192 + 256, 8192 + 300, whole.length]) {
        if (to <= at) continue;
        const read = new Uint8Array(to - at);
        assert.equal(connection.timeline.readSegments((from + at) as Lsn, read, 0, read.length), read.length);
        assert.deepEqual(read, whole.subarray(at, to));
      }
    }
    await timelines.close();
  });

  test("one sync covers all that was sent in one go", async () => {
    const random = new Random(4);
    const disk = new FaultyDisk(random);
    const { timelines, connection, log } = await electedConnection(disk);
    await connection.append(1, extended(log, new Random(5)), START, START, random);
    let sent = extended(log, new Random(5));
    const before = disk.operations;
    for (let i = 0; i < 10; i++) {
      const from = endOf(sent);
      const next = small(sent);
      connection.send({
        type: "AppendRequest",
        term: 1,
        beginLsn: from,
        commitLsn: START,
        truncateLsn: 0 as Lsn,
        remoteConsistentLsn: 0 as Lsn,
        bytes: next.bytes.slice(sent.bytes.length),
      });
      sent = next;
    }
    await connection.answer((message): message is AppendResponse =>
      message.type === "AppendResponse" && message.flushLsn === endOf(sent)
    );
    assert.equal(disk.operations - before, 10 + 1, "ten writes and one fdatasync");
    await timelines.close();
  });
});

/** `log` and one small record. */
function small(log: Log): Log {
  const end = endOf(log);
  const builder = new WalBuilder({
    startLsn: end,
    segmentSize: SEGMENT,
    prev: lastRecord(log.boundaries, SEGMENT) ?? START - 64,
  });
  const record = builder.record({ main: new Uint8Array(16).fill(9) });
  const added = builder.bytes.subarray(end - builder.from);
  const bytes = new Uint8Array(log.bytes.length + added.length);
  bytes.set(log.bytes);
  bytes.set(added, log.bytes.length);
  return { ...log, bytes, boundaries: [...log.boundaries, record.endLsn] };
}
