import { after, before, describe, test } from "node:test";
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { HostPort } from "../../../src/common/host_port.ts";
import {
  generateTenantId,
  generateTimelineId,
  type TenantId,
  type TimelineId,
} from "../../../src/common/id.ts";
import { sleep } from "../../../src/common/sleep.ts";
import { NULL_LOGGER } from "../../../src/process/log.ts";
import { formatLsn, type Lsn } from "../../../src/common/lsn.ts";
import { SafekeeperPaths } from "../../../src/common/paths.ts";
import { decodeAcceptorMessage, encodeMessage } from "../../../src/consensus/message_codec.ts";
import {
  type AcceptorMessage,
  type ProposerMessage,
  WAL_ACCEPTOR_PROTOCOL_VERSION,
} from "../../../src/consensus/messages.ts";
import { PgClient } from "../../../src/pgwire/client.ts";
import { parseConnInfo } from "../../../src/pgwire/conninfo.ts";
import type { CopyBoth } from "../../../src/pgwire/copy_both.ts";
import { startReplication } from "../../../src/pgwire/replication.ts";
import { PgServer } from "../../../src/pgwire/server.ts";
import { RECOVERY_TERM_OPTION, timelineOptions } from "../../../src/protocol/wal_connection.ts";
import { type RunningSafekeeper, runSafekeeper } from "../../../src/safekeeper/run_safekeeper.ts";
import { V15 } from "../../../src/postgres/versions/v15.ts";
import { buildTimelineSwitch } from "../../../src/postgres/wal/timeline_switch.ts";
import { WalBuilder } from "../../harness/wal_builder.ts";

const SEGMENT = 1 << 20;
const START = (SEGMENT * 5 + 8192 + 512) as Lsn;
const SYSTEM_ID = 7000000000000000001n;

/** A proposer of one timeline, by hand. */
class Proposer {
  readonly client: PgClient;
  readonly #copy: CopyBoth;
  readonly #answers: AcceptorMessage[] = [];
  #wake: (() => void) | undefined;
  readonly ended: Promise<void>;

  static async connect(address: HostPort): Promise<Proposer> {
    const client = await PgClient.connect({ ...address, user: "zenith" });
    return new Proposer(client, await client.copyBoth("START_WAL_PUSH"));
  }

  private constructor(client: PgClient, copy: CopyBoth) {
    this.client = client;
    this.#copy = copy;
    this.ended = copy.run({
      onData: (bytes, off, len) => {
        this.#answers.push(decodeAcceptorMessage(bytes, off, len));
        this.#wake?.();
      },
    });
    this.ended.catch(() => this.#wake?.());
  }

  send(message: ProposerMessage | Uint8Array): void {
    this.#copy.send(message instanceof Uint8Array ? message : encodeMessage(message));
  }

  async answer(): Promise<AcceptorMessage> {
    while (this.#answers.length === 0) {
      await Promise.race([new Promise<void>((resolve) => this.#wake = resolve), this.ended]);
    }
    return this.#answers.shift()!;
  }
}

function serverInfo(tenantId: TenantId, timelineId: TimelineId): ProposerMessage {
  return {
    type: "ServerInfo",
    protocolVersion: WAL_ACCEPTOR_PROTOCOL_VERSION,
    tenantId,
    timelineId,
    systemId: SYSTEM_ID,
    pgVersion: 15,
    segmentSize: SEGMENT,
    proposerId: "01".repeat(16),
  };
}

describe("a safekeeper's service", () => {
  const root = mkdtempSync(join(tmpdir(), "zenith-safekeeper-service-"));
  const tenant = generateTenantId();
  const timeline = generateTimelineId();
  const wal = new WalBuilder({
    startLsn: START,
    segmentSize: SEGMENT,
    systemId: SYSTEM_ID,
    prev: START - 64,
  });
  const boundaries: Lsn[] = [];
  let safekeeper: RunningSafekeeper;
  let bytes: Uint8Array;
  /** Where the records end that are committed: half of them. */
  let commitLsn: Lsn;
  let endLsn: Lsn;
  const calls: string[] = [];
  const pageserver = new PgServer({
    describe: () => null,
    query(session, sql) {
      calls.push(sql);
      session.sendCommandComplete("CALLMEMAYBE");
      return Promise.resolve();
    },
  });

  function connect(options: Record<string, unknown> = {}): Promise<PgClient> {
    return PgClient.connect({ ...safekeeper.address, user: "zenith", ...options });
  }

  /** What a reader gets from `from` on, until it has `length` bytes. */
  async function read(from: Lsn, length: number, options: string): Promise<Uint8Array> {
    await using client = await connect({ replication: true, options });
    const stream = await startReplication(client, { startLsn: from, timeline: 1 });
    const got = new Uint8Array(length);
    let count = 0;
    await new Promise<void>((resolve, reject) => {
      stream.run({
        onWal(lsn, data, off, len) {
          assert.equal(lsn, from + count);
          got.set(data.subarray(off, off + Math.min(len, length - count)), count);
          count += len;
          if (count >= length) resolve();
        },
        onKeepalive() {},
      }).then(() => reject(new Error("the stream ended")), reject);
    });
    client.destroy();
    assert.ok(count >= length);
    return got.subarray(0, Math.min(count, length));
  }

  before(async () => {
    const { host, port } = await pageserver.listen({ host: "127.0.0.1", port: 0 });
    safekeeper = await runSafekeeper({
      paths: new SafekeeperPaths(root),
      listen: { host: "127.0.0.1", port: 0 },
      id: 7,
      logger: NULL_LOGGER,
      pageserver: { host, port },
      recallIntervalMs: 20,
    });
    for (let i = 0; i < 400; i++) {
      boundaries.push(wal.record({ main: new Uint8Array(100 + i * 37).fill(i) }).endLsn);
    }
    bytes = wal.bytes.slice(START - wal.from);
    endLsn = boundaries.at(-1)!;
    commitLsn = boundaries[200];
  });

  after(async () => {
    await safekeeper.stop();
    await pageserver.close();
    rmSync(root, { recursive: true });
  });

  test("takes WAL of an elected proposer", async () => {
    const proposer = await Proposer.connect(safekeeper.address);
    proposer.send(serverInfo(tenant, timeline));
    assert.deepEqual(await proposer.answer(), { type: "Greeting", term: 0, acceptorId: 7 });
    proposer.send({ type: "VoteRequest", term: 3 });
    assert.deepEqual(await proposer.answer(), {
      type: "VoteResponse",
      term: 3,
      granted: true,
      flushLsn: 0,
      timelineStartLsn: 0,
      history: [],
    });
    const history = [{ term: 3, startLsn: START }];
    proposer.send({ type: "ProposerElected", term: 3, startLsn: START, timelineStartLsn: START, history });
    await proposer.answer();
    for (let off = 0; off < bytes.length; off += 300_000) {
      proposer.send({
        type: "AppendRequest",
        term: 3,
        beginLsn: (START + off) as Lsn,
        commitLsn,
        truncateLsn: START,
        remoteConsistentLsn: 0 as Lsn,
        bytes: bytes.subarray(off, off + 300_000),
      });
    }
    for (;;) {
      const answer = await proposer.answer();
      assert.ok(answer.type === "AppendResponse");
      if (answer.flushLsn === endLsn) break;
    }
    await proposer.client.close();
  });

  test("lets go of nothing on the word of one that was not elected, and goes on", async () => {
    const huge = Number.MAX_SAFE_INTEGER as Lsn;
    const stranger = { ...serverInfo(tenant, timeline), proposerId: "02".repeat(16) } as ProposerMessage;
    const append = {
      type: "AppendRequest",
      beginLsn: START,
      commitLsn: huge,
      truncateLsn: huge,
      remoteConsistentLsn: huge,
      bytes: new Uint8Array(0),
    } as const;
    const history = [{ term: 3, startLsn: START }];
    const lies: [RegExp, ProposerMessage][] = [
      [/another proposer was elected in term 3/, { ...append, term: 3 }],
      [/term 0 is outside/, { ...append, term: 0 }],
      [/is more than 1024 above/, { type: "VoteRequest", term: 2 ** 52 }],
      [/is outside 1\.\./, { type: "VoteRequest", term: huge }],
      [/another proposer was elected/, {
        type: "ProposerElected",
        term: 3,
        startLsn: START,
        timelineStartLsn: START,
        history,
      }],
    ];
    for (const [pattern, lie] of lies) {
      const proposer = await Proposer.connect(safekeeper.address);
      proposer.send(stranger);
      await proposer.answer();
      assert.equal(encodeMessage({ ...append, term: 3 }).length, 41);
      proposer.send(lie);
      await assert.rejects(proposer.ended, { message: pattern });
      proposer.client.destroy();
    }
    // A timeline of its own may be nonsense; it stays one that works.
    const other = generateTimelineId();
    const wrong: [RegExp, ProposerMessage[]][] = [
      [/wal_segment_size 12345/, [{ ...serverInfo(tenant, other), segmentSize: 12345 } as ProposerMessage]],
      [/term 0 is outside/, [serverInfo(tenant, other), { ...append, term: 0, beginLsn: 0 as Lsn }]],
      [/no WAL can begin at/, [serverInfo(tenant, other), {
        type: "ProposerElected",
        term: 3,
        startLsn: (START + 1) as Lsn,
        timelineStartLsn: (START + 1) as Lsn,
        history: [{ term: 3, startLsn: (START + 1) as Lsn }],
      }]],
    ];
    for (const [pattern, messages] of wrong) {
      const proposer = await Proposer.connect(safekeeper.address);
      for (const message of messages) proposer.send(message);
      await assert.rejects(proposer.ended, { message: pattern });
      proposer.client.destroy();
    }
    await using client = await connect();
    const { rows } = await client.query(`TIMELINE_STATUS ${tenant} ${timeline}`);
    const [status] = JSON.parse(rows[0][0]!);
    assert.deepEqual([status.term, status.remote_consistent_lsn], [3, formatLsn(START)]);
    await client.query(`TIMELINE_DELETE ${tenant} ${other}`);
  });

  test("serves readers what is committed, and no zeros for what was never here", async () => {
    const options = timelineOptions(tenant, timeline);
    const got = await read(START, commitLsn - START, options);
    assert.ok(Buffer.from(got).equals(bytes.subarray(0, commitLsn - START)));
    const segment = (SEGMENT * 5) as Lsn;
    for (const before of [segment, (START - 512) as Lsn, (START - 8) as Lsn]) {
      await assert.rejects(read(before, 1, options), {
        message: /was never here: .* begins in the middle of that segment/,
      });
    }
    await assert.rejects(read((commitLsn + 8) as Lsn, 1, options), {
      message: /is not here: this safekeeper has/,
    });
    await assert.rejects(read((segment - 8) as Lsn, 1, options), { message: /is not here/ });
  });

  test("ends the stream of a timeline of PostgreSQL where the WAL has left it", async () => {
    const timelineId = generateTimelineId();
    const [prev, begin] = [wal.records[199]!.lsn, boundaries[199]!];
    const { bytes: more } = buildTimelineSwitch({
      pg: V15,
      systemIdentifier: SYSTEM_ID,
      segmentSize: SEGMENT,
      timelineId,
      lsn: begin,
      prev,
      timelines: [],
      wal_level: 1,
      endTime: 0n,
    });
    const all = Buffer.concat([bytes.subarray(0, begin - START), more]);
    const proposer = await Proposer.connect(safekeeper.address);
    proposer.send(serverInfo(tenant, timelineId));
    await proposer.answer();
    proposer.send({ type: "VoteRequest", term: 1 });
    await proposer.answer();
    const history = [{ term: 1, startLsn: START }];
    proposer.send({ type: "ProposerElected", term: 1, startLsn: START, timelineStartLsn: START, history });
    await proposer.answer();
    const append = {
      type: "AppendRequest",
      term: 1,
      truncateLsn: START,
      remoteConsistentLsn: 0 as Lsn,
    } as const;
    const end = (START + all.length) as Lsn;
    for (let off = 0; off < all.length; off += 300_000) {
      const beginLsn = (START + off) as Lsn;
      proposer.send({ ...append, beginLsn, commitLsn: START, bytes: all.subarray(off, off + 300_000) });
    }
    for (;;) {
      const answer = await proposer.answer();
      if (answer.type === "AppendResponse" && answer.flushLsn === end) break;
    }
    const options = timelineOptions(tenant, timelineId);
    const ask = async (sql: string) => {
      await using client = await connect({ replication: true, options });
      return (await client.query(sql)).rows[0];
    };
    // What is not committed may still go.
    assert.equal((await ask("IDENTIFY_SYSTEM"))![1], "1");
    proposer.send({ ...append, beginLsn: end, commitLsn: end, bytes: new Uint8Array(0) });
    while ((await ask("IDENTIFY_SYSTEM"))![2] !== formatLsn(end)) await sleep(5);
    await proposer.client.close();
    assert.deepEqual((await ask("IDENTIFY_SYSTEM"))!.slice(1, 3), ["2", formatLsn(end)]);
    assert.deepEqual(await ask("TIMELINE_HISTORY 2"), [
      "00000002.history",
      `1\t${formatLsn(begin)}\twhat was written after this may be lost\n`,
    ]);
    await assert.rejects(ask("TIMELINE_HISTORY 3"), { kind: "not_found" });
    const stream = async (tli: number | undefined, from: Lsn): Promise<Buffer> => {
      await using client = await connect({ replication: true, options });
      const running = await startReplication(
        client,
        tli === undefined ? { startLsn: from } : { startLsn: from, timeline: tli },
      );
      const got: Buffer[] = [];
      let length = 0;
      await new Promise<void>((resolve, reject) => {
        running.run({
          onWal(_lsn, data, off, len) {
            got.push(Buffer.from(data.slice(off, off + len)));
            length += len;
            if (from + length >= end) resolve();
          },
          onKeepalive() {},
        }).then(resolve, reject);
      });
      client.destroy();
      return Buffer.concat(got);
    };
    assert.ok((await stream(1, START)).equals(all.subarray(0, begin - START)));
    assert.equal((await stream(1, begin)).length, 0);
    assert.ok((await stream(2, START)).equals(all));
    assert.ok((await stream(undefined, START)).equals(all));
    await assert.rejects(stream(1, end), { message: /is not in the branch's history, .* to 2 at/ });
    await assert.rejects(stream(3, START), { message: /no WAL timeline 3 here: there are 1 to 2/ });
    await using client = await connect();
    await client.query(`TIMELINE_DELETE ${tenant} ${timelineId}`);
  });

  test("serves everything to the proposer of its term, and to no other", async () => {
    const options = timelineOptions(tenant, timeline);
    const got = await read(START, endLsn - START, `${options} -c ${RECOVERY_TERM_OPTION}=3`);
    assert.ok(Buffer.from(got).equals(bytes.subarray(0, endLsn - START)));
    await assert.rejects(read(START, 1, `${options} -c ${RECOVERY_TERM_OPTION}=2`), {
      message: /term 3 now/,
    });
  });

  test("shows the status of its timelines", async () => {
    await using client = await connect();
    for (const command of ["TIMELINE_STATUS", `timeline_status ${tenant} ${timeline};`]) {
      const { rows } = await client.query(command);
      const [status, ...others] = JSON.parse(rows[0][0]!);
      assert.deepEqual(others, []);
      assert.deepEqual([status.tenant_id, status.timeline_id, status.term], [tenant, timeline, 3]);
      assert.deepEqual([status.flush_lsn, status.commit_lsn], [formatLsn(endLsn), formatLsn(commitLsn)]);
    }
  });

  test("says what a client got wrong, and lives on", async () => {
    await using client = await connect({ replication: true });
    await assert.rejects(client.query("SELECT everything"), { message: /unknown command/ });
    await assert.rejects(client.query("IDENTIFY_SYSTEM"), { message: /does not say which timeline/ });
    await assert.rejects(client.query(`TIMELINE_STATUS ${tenant} ${generateTimelineId()}`), {
      kind: "not_found",
    });
    await assert.rejects(client.query("CREATE_REPLICATION_SLOT mine PHYSICAL"), {
      message: /unknown command/,
    });
    await using stranger = await connect({
      replication: true,
      options: timelineOptions("../../etc", timeline),
    });
    await assert.rejects(stranger.query("IDENTIFY_SYSTEM"), { message: /is not a tenant id/ });
  });

  test("ends the connection of a proposer that breaks the protocol, and of no other", async () => {
    const good = await Proposer.connect(safekeeper.address);
    good.send(serverInfo(tenant, timeline));
    await good.answer();
    const wrong: [RegExp, ProposerMessage | Uint8Array][] = [
      [/expected ServerInfo/, { type: "VoteRequest", term: 1 }],
      [/unknown message of a proposer/, Uint8Array.of(200, 1, 2)],
      [/ends before/, Uint8Array.of("g".charCodeAt(0), 0, 0)],
      [/system identifier/, { ...serverInfo(tenant, timeline), systemId: 1n } as ProposerMessage],
    ];
    for (const [pattern, message] of wrong) {
      const proposer = await Proposer.connect(safekeeper.address);
      proposer.send(message);
      await assert.rejects(proposer.ended, { message: pattern });
      proposer.client.destroy();
    }
    good.send({ type: "VoteRequest", term: 4 });
    const answer = await good.answer();
    assert.ok(answer.type === "VoteResponse" && answer.granted && answer.flushLsn === endLsn);
    await good.client.close();
  });

  test("calls the page server until it has the WAL, then no more", async () => {
    while (calls.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    const [, , ...connInfo] = calls[0].split(" ").slice(1);
    const info = parseConnInfo(connInfo.join(" "));
    assert.deepEqual([info.host, info.port], [safekeeper.address.host, safekeeper.address.port]);
    assert.equal(calls[0], `callmemaybe ${tenant} ${timeline} ${connInfo.join(" ")}`);

    // It comes, and confirms all that is committed.
    await using client = await PgClient.connect({
      ...info,
      applicationName: "pageserver",
      replication: true,
    });
    const stream = await startReplication(client, { startLsn: START, timeline: 1 });
    const running = stream.run({
      onWal(lsn, _data, _off, len) {
        const end = (lsn + len) as Lsn;
        stream.standbyStatusUpdate(end, end, end);
      },
      onKeepalive() {},
    });
    running.catch(() => {});
    await using status = await connect();
    for (;;) {
      const { rows } = await status.query("TIMELINE_STATUS");
      if (JSON.parse(rows[0][0]!)[0].remote_consistent_lsn === formatLsn(commitLsn)) break;
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    client.destroy();
    const before = calls.length;
    // Ten times the interval: one round may have been under way.
    await new Promise((resolve) => setTimeout(resolve, 200));
    assert.ok(calls.length <= before + 1, `${calls.length - before} more calls`);
  });
});
