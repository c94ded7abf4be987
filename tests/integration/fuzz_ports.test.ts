/**
 * Everything that listens gets recorded conversations of its clients with something changed: without a token, with one, in streams,
 * in TLS. It goes on, holds little memory, does nothing for strangers, and tells nobody what is another's.
 *
 * ZENITH_FUZZ_SECONDS says for how long (12), ZENITH_FUZZ_SEED repeats what is mutated.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer, type NetConnectOpts } from "node:net";
import type { AddressInfo } from "node:net";
import { after, before, describe, test } from "node:test";
import { connect as connectTls } from "node:tls";
import { ensureServerCertificate } from "../../src/auth/certificates.ts";
import type { HostPort } from "../../src/common/host_port.ts";
import { generateTimelineId, parseBranchName, type TenantId } from "../../src/common/id.ts";
import { formatLsn, parseLsn } from "../../src/common/lsn.ts";
import { encodeMessage } from "../../src/consensus/message_codec.ts";
import { PgClient } from "../../src/pgwire/client.ts";
import { findSpares } from "../../src/process/spare_slots.ts";
import { checkPidFile } from "../../src/process/pid_file.ts";
import { PAGE_SERVER, SAFEKEEPER } from "../../src/protocol/management.ts";
import {
  encodeRequest,
  PageRequest,
  REQUEST_BYTES,
  REQUEST_NBLOCKS,
  REQUEST_PAGES,
} from "../../src/protocol/pagestream.ts";
import { timelineOptions } from "../../src/protocol/wal_connection.ts";
import { type Conversation, mutate, play, record } from "../harness/fuzz.ts";
import { Random } from "../harness/random.ts";
import {
  PAGE_SERVER_ROWS,
  SAFEKEEPER_ROWS,
  tenant as rowTenant,
  timeline as rowTimeline,
} from "../harness/security_rows.ts";
import { type Compute, ZenithEnv } from "../harness/zenith_env.ts";

const SECONDS = Number(process.env["ZENITH_FUZZ_SECONDS"] ?? 12);
const SEED = Number(process.env["ZENITH_FUZZ_SEED"] ?? Date.now() % 1_000_000);

/** What a server may hold while it is fuzzed; at rest it has some 200 MB. */
const MEMORY_MAX_BYTES = 600 << 20;

const SECRET = "what-only-the-other-tenant-may-read";
const SSL_REQUEST = new Uint8Array([0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f]);
/** AuthenticationOk, as a server says it: `R`, its length, 0. */
const AUTHENTICATION_OK = Buffer.from([0x52, 0, 0, 0, 8, 0, 0, 0, 0]);

const pause = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));
const text = (words: string) => new TextEncoder().encode(words);

describe(`servers that are fuzzed (seed ${SEED})`, () => {
  let env: ZenithEnv;
  let own: TenantId;
  let other: TenantId;
  let otherMain: Compute;
  let otherTimeline: string;
  let token: string;
  let timeline: string;
  let end: string;
  let words: Uint8Array[];

  before(async () => {
    env = await ZenithEnv.create({ safekeepers: 1, start: false });
    await ensureServerCertificate(env.paths.auth, ["127.0.0.1"]);
    await env.zenith("start");
    own = env.defaultTenant;
    other = await env.createTenant();
    const main = await env.startCompute("main");
    await main.query("CREATE TABLE t AS SELECT generate_series(1, 1000) n");
    await env.untilArrived("main");
    otherMain = await env.startCompute("main", other);
    await otherMain.query(
      `CREATE TABLE secrets AS SELECT '${SECRET}'::text AS word FROM generate_series(1, 1000)`,
    );
    await env.untilArrived("main", other);
    await env.branch("idle", "main");
    await (await env.startCompute("idle")).stop();
    await using client = env.pageserver.client();
    const branch = await client.branch(own, parseBranchName("main"));
    timeline = branch.timeline_id;
    end = formatLsn(branch.latest_valid_lsn);
    otherTimeline = (await client.branch(other, parseBranchName("main"))).timeline_id;
    token = (await env.zenith("token", "create", "a fuzzer", "--scope", "tenant")).trim();
    words = [
      own,
      other,
      timeline,
      otherTimeline,
      end,
      "main",
      "none",
      "default",
      "expires=1s",
      "\0",
      "'",
      " ",
    ].map(text);
  });
  after(() => env?.[Symbol.asyncDispose]());

  const login = ({ host, port }: HostPort, password: string, more: object = {}) =>
    PgClient.connect({ host, port, user: "fuzzer", password, ...more });

  /** Commands of the contract that name the fuzzer's tenant. Those that would end the fuzzing are left out. */
  const commands = (rows: Readonly<Record<string, { args: string }>>, names: readonly string[]) =>
    names.filter((name) => rows[name] !== undefined && !/^tenant_(?:delete|detach)$/.test(name))
      .map((name) =>
        `${name} ${rows[name]!.args}`.replaceAll(rowTenant, own).replaceAll(rowTimeline, timeline)
      );

  /** Conversations with a server, as a client with that password has them. */
  async function corpus(
    address: HostPort,
    password: string,
    list: readonly string[],
  ): Promise<Conversation[]> {
    const found: Conversation[] = [];
    for (const command of list) {
      found.push(
        await record(address, async (proxy) => {
          const client = await login(proxy, password);
          // A stream goes on until its client leaves.
          await Promise.race([client.query(command).catch(() => {}), pause(100)]);
          client.destroy();
        }),
      );
    }
    return found;
  }

  const pageRequests = (): Uint8Array[] =>
    [REQUEST_PAGES, REQUEST_NBLOCKS].map((tag) => {
      const request = new PageRequest();
      Object.assign(request, {
        tag,
        lsn: parseLsn(end),
        spc: 1663,
        db: 1,
        rel: 1259,
        fork: 0,
        blkno: 0,
        count: 4,
      });
      const bytes = new Uint8Array(REQUEST_BYTES);
      encodeRequest(bytes, 0, request);
      return bytes;
    });

  /** A stream, whose messages are what is changed. */
  const streaming = (
    address: HostPort,
    password: string,
    command: string,
    messages: readonly Uint8Array[],
    more = {},
  ) =>
    record(address, async (proxy) => {
      const client = await login(proxy, password, more);
      const copy = await client.copyBoth(command);
      const run = copy.run({ onData() {} });
      run.catch(() => {});
      for (const message of messages) {
        copy.send(message);
        await pause(5);
      }
      client.destroy();
    });

  /** The first flight of a TLS client. */
  async function clientHello(): Promise<Uint8Array> {
    const listener = createServer();
    listener.listen({ host: "127.0.0.1", port: 0 });
    await once(listener, "listening");
    const client = connectTls({
      host: "127.0.0.1",
      port: (listener.address() as AddressInfo).port,
      rejectUnauthorized: false,
    });
    client.on("error", () => {});
    const [socket] = await once(listener, "connection");
    const [hello] = await once(socket, "data") as [Uint8Array];
    client.destroy();
    socket.destroy();
    listener.close();
    return new Uint8Array(hello);
  }

  interface Target {
    readonly name: string;
    readonly where: NetConnectOpts;
    readonly conversations: readonly Conversation[];
    /** How many pieces at the beginning stay as they are: those that prove who the client is. */
    readonly kept: number;
    readonly isStranger: boolean;
  }

  test("go on, answer others, and give strangers nothing", async () => {
    const pageServer = env.pageserver.address;
    const safekeeper = env.safekeepers[0]!.address;
    const at = ({ host, port }: HostPort): NetConnectOpts => ({ host, port });
    const ofPageServer = commands(PAGE_SERVER_ROWS, Object.values(PAGE_SERVER).map(({ name }) => name));
    const ofSafekeeper = commands(SAFEKEEPER_ROWS, Object.values(SAFEKEEPER).map(({ name }) => name));
    const push = [{
      type: "ServerInfo",
      protocolVersion: 2,
      proposerId: "0".repeat(32),
      tenantId: own,
      timelineId: generateTimelineId(),
      systemId: 1n,
      pgVersion: 15,
      segmentSize: 1 << 24,
    }, { type: "VoteRequest", term: 1, proposerId: "0".repeat(32) }] as const;
    const status = new Uint8Array(34);
    status[0] = "r".charCodeAt(0);
    const replication = { replication: true, options: timelineOptions(own, timeline as never) };
    const hello = await clientHello();

    const targets: Target[] = [];
    for (
      const [name, address, list] of [
        ["page server", pageServer, ofPageServer],
        ["safekeeper", safekeeper, ofSafekeeper],
      ] as const
    ) {
      const conversations = await corpus(address, token, list);
      // A stranger has seen what clients say, but for the token.
      const silent = conversations.map(([startup, , ...rest]) => [startup!, ...rest]);
      const where = at(address);
      targets.push(
        { name: `${name}, no token`, where, conversations: silent, kept: 0, isStranger: true },
        { name: `${name}, with a token`, where, conversations, kept: 2, isStranger: false },
      );
    }
    targets.push(
      {
        name: "pagestream",
        where: at(pageServer),
        conversations: [await streaming(pageServer, token, `pagestream ${own} ${timeline}`, pageRequests())],
        kept: 2,
        isStranger: false,
      },
      {
        name: "WAL push",
        where: at(safekeeper),
        conversations: [
          await streaming(
            safekeeper,
            token,
            "START_WAL_PUSH",
            push.map((message) => encodeMessage(message as never)),
          ),
          await streaming(
            safekeeper,
            token,
            `START_REPLICATION PHYSICAL ${end}`,
            [status, status],
            replication,
          ),
        ],
        kept: 2,
        isStranger: false,
      },
      ...[pageServer, safekeeper].map((address, i) => ({
        name: `TLS of the ${i === 0 ? "page server" : "safekeeper"}`,
        where: at(address),
        conversations: [[SSL_REQUEST, hello], [SSL_REQUEST, hello, hello]],
        kept: 0,
        isStranger: true,
      })),
    );
    for (const { name, conversations } of targets) {
      assert.ok(conversations.length > 0 && conversations.every((pieces) => pieces.length > 0), name);
    }

    // A supervisor that waits for the next start, behind a socket that only its user reaches.
    const [spare] = findSpares(env.paths.spares);
    assert.ok(
      spare !== undefined || process.env["ZENITH_BIN"] === undefined,
      "the one of the branch idle waits",
    );
    if (spare !== undefined) {
      const request = {
        args: ["compute", "-D", `${env.dir}/nowhere`],
        logFile: "/dev/null",
        env: {},
        cwd: "/",
      };
      const conversations = [[text(`${JSON.stringify(request)}\n`)]];
      targets.push({
        name: "spare",
        where: { path: spare.socket },
        conversations,
        kept: 0,
        isStranger: true,
      });
    }
    const files = [env.paths.pageserver.pidFile, env.safekeepers[0]!.paths.pidFile];
    const running = files.map((file) => {
      const found = checkPidFile(file);
      assert.ok(found.state === "running");
      return found.process.pid;
    });
    const until = performance.now() + SECONDS * 1000;
    const played = new Map<string, number>();
    const fuzz = async (target: Target, seed: number): Promise<void> => {
      const random = new Random(seed);
      while (performance.now() < until) {
        const conversation = target.conversations[random.int(target.conversations.length)]!;
        const answer = Buffer.from(await play(random, target.where, conversation, target.kept, words));
        played.set(target.name, (played.get(target.name) ?? 0) + 1);
        assert.ok(!answer.includes(SECRET), `${target.name}: it got what is another tenant's`);
        if (target.isStranger) {
          assert.ok(!answer.includes(AUTHENTICATION_OK), `${target.name}: a stranger was let in`);
        }
      }
    };
    /** Another tenant, who must not notice. */
    let answers = 0;
    const victim = async (): Promise<void> => {
      await using client = env.pageserver.client();
      while (performance.now() < until) {
        assert.equal(await otherMain.value("SELECT count(*)::int FROM secrets"), 1000);
        assert.equal((await client.branch(other, parseBranchName("main"))).timeline_id, otherTimeline);
        for (const pid of running) {
          const rss = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"));
          assert.ok(
            rss !== null && Number(rss[1]) * 1024 < MEMORY_MAX_BYTES,
            `process ${pid}: ${rss?.[1]} kB`,
          );
        }
        answers++;
        await pause(100);
      }
    };
    await Promise.all([
      victim(),
      ...targets.flatMap((target, i) => [0, 1].map((lane) => fuzz(target, SEED + i * 10 + lane))),
    ]);

    console.log([...played].map(([name, times]) => `${name}: ${times}`).join(", "));
    for (const [i, file] of files.entries()) {
      const found = checkPidFile(file);
      assert.ok(found.state === "running" && found.process.pid === running[i], `${file}: it did not go on`);
    }
    assert.ok(
      (await env.startCompute("idle")).address.port > 0,
      "a Postgres starts, by the spare or without it",
    );
    for (const { name } of targets) assert.ok((played.get(name) ?? 0) > 5, `${name}: ${played.get(name)}`);
    assert.ok(answers > 0);
    for (const log of [env.paths.pageserver.log, env.safekeepers[0]!.paths.log]) {
      // What is nobody's mistake but ours: a failed assertion, a type error, an error that nobody caught.
      const bad = readFileSync(log, "utf8").split("\n")
        .filter((line) =>
          /AssertionError|TypeError|RangeError|ReferenceError|uncaught|unhandled/i.test(line)
        );
      assert.deepEqual(bad.slice(0, 3), [], log);
    }
    await otherMain.query("INSERT INTO secrets VALUES ('and it commits')");
    await using client = env.pageserver.client();
    assert.deepEqual((await client.branchList(other)).map(({ name }) => String(name)), ["main"]);
    await otherMain.restart();
    assert.equal(await otherMain.value("SELECT count(*)::int FROM secrets"), 1001);
  });

  test("store no settings and no slots that a start could not read, as they once did", async () => {
    await using client = await login(env.pageserver.address, token);
    const refused = (command: string) => assert.rejects(client.query(command), /these are no .* of a branch/);
    await refused(`timeline_set_settings ${own} ${timeline} AAAA`);
    await refused(`timeline_set_slots ${own} ${timeline} 1 AAAA`);
  });

  test("as a mutation changes something, and never the recording", () => {
    const piece = text("branch_list main");
    const before = piece.slice();
    const random = new Random(SEED);
    const same = Array.from({ length: 100 }, () => Buffer.from(mutate(random, piece, words)).equals(before));
    assert.deepEqual(piece, before);
    assert.ok(same.filter((isSame) => isSame).length < 20);
  });
});
