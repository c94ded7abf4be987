/**
 * A timeline's whole life in virtual time: acceptors, computes that come and go, and a network and disks that do their
 * worst; then everything heals, and there must be progress. All chance comes from one seed, so a run repeats exactly.
 *
 * The network loses, doubles and delays single messages, also those of connections that are gone, and it parts. That is more
 * than TCP does: the protocol must not rest on what TCP promises.
 */
import { ZenithError } from "../../src/common/errors.ts";
import { parseTenantId, parseTimelineId } from "../../src/common/id.ts";
import { INVALID_LSN, type Lsn } from "../../src/common/lsn.ts";
import {
  type AcceptorMessage,
  type ProposerMessage,
  type ServerInfo,
  type TimelineIdentity,
  WAL_ACCEPTOR_PROTOCOL_VERSION,
} from "../../src/consensus/messages.ts";
import { checkedLimits, LIMITS, type Limits } from "../../src/consensus/limits.ts";
import { POSTGRES, type ProposerEffect } from "../../src/consensus/proposer.ts";
import { Random } from "../harness/random.ts";
import { Checker, Violation } from "./checker.ts";
import { hostileGreeting, hostileMessage } from "./hostile.ts";
import { type Machines, PRODUCTION } from "./machines.ts";
import { Scheduler } from "./scheduler.ts";
import { type AcceptorHost, SimAcceptor } from "./sim_acceptor.ts";
import { RECORD_BYTES, TIMELINE_START } from "./sim_log.ts";
import { type ProposerHost, SimProposer } from "./sim_proposer.ts";

const CHAOS_MS = 3000;
const HEAL_MS = 20_000;
/** After the healing: this much more must be committed, and be everywhere. */
const PROGRESS_RECORDS = 5;

/** Against them a record of a few hundred bytes is what one of many megabytes is against the production's. */
const NARROW_LIMITS = checkedLimits({
  inFlightBytes: 256,
  appendBytes: 64,
  fetchBytes: 96,
  partSyncBytes: 96,
});

const IDENTITY: TimelineIdentity = {
  tenantId: parseTenantId("11".repeat(16)),
  timelineId: parseTimelineId("22".repeat(16)),
  systemId: 7n,
  pgVersion: 15,
  segmentSize: 1 << 20,
};

const SERVER_INFO: ServerInfo = {
  ...IDENTITY,
  type: "ServerInfo",
  protocolVersion: WAL_ACCEPTOR_PROTOCOL_VERSION,
  proposerId: "33".repeat(16),
};

/** Nobody else has this name. */
function serverInfoOf(number: number): ServerInfo {
  return { ...SERVER_INFO, proposerId: number.toString(16).padStart(32, "a") };
}

/** A proposer's connection to an acceptor. */
interface Session {
  readonly id: number;
  readonly proposer: SimProposer;
  readonly acceptor: SimAcceptor;
  open: boolean;
}

export interface SimulationResult {
  readonly steps: number;
  readonly terms: number;
  readonly committedRecords: number;
  readonly crashes: number;
  /** What a hostile session said and was refused for. */
  readonly refusals: number;
  /** Records that were longer than what may be on its way at once. */
  readonly longRecords: number;
  /** What an acceptor had lost of a record came from Postgres again. */
  readonly postgresFetches: number;
}

export interface SimulationOptions {
  readonly machines?: Machines;
  /** Gets a line for everything that happens. */
  readonly trace?: (line: string) => void;
}

/** @throws {Violation} when an invariant does not hold, or nothing goes on after the healing */
export function simulate(seed: number, options: SimulationOptions = {}): SimulationResult {
  return new Simulation(seed, options).run();
}

class Simulation implements AcceptorHost, ProposerHost {
  readonly #random: Random;
  readonly #scheduler = new Scheduler();
  readonly #machines: Machines;
  readonly #trace: ((line: string) => void) | undefined;
  readonly #checker: Checker;
  readonly #acceptors: SimAcceptor[] = [];
  readonly #proposers: SimProposer[] = [];
  #sessions: Session[] = [];
  #nextSession = 1;
  /** The hostile session of each acceptor, where there is one. */
  readonly #hostile = new Map<SimAcceptor, number>();
  /** Those too that have ended: what they said may still be heard. */
  readonly #hostileSessions = new Set<number>();
  #refusals = 0;
  #postgresFetches = 0;
  #longRecords = 0;
  #healed = false;
  #failure: unknown;
  #steps = 0;
  #crashes = 0;

  // How bad it is, by chance per run.
  readonly #lossPercent: number;
  readonly #duplicatePercent: number;
  readonly #maxDelay: number;
  readonly #chaosInterval: number;
  readonly #isHostile: boolean;
  readonly #limits: Limits;
  /** `proposer name/acceptor index` pairs that hear nothing of each other. */
  readonly #parted = new Set<string>();

  constructor(seed: number, options: SimulationOptions) {
    const random = new Random(seed);
    this.#random = random;
    this.#machines = options.machines ?? PRODUCTION;
    this.#trace = options.trace;
    const count = [1, 3, 3, 3, 5][random.int(5)];
    this.#lossPercent = [0, 2, 10, 25][random.int(4)];
    this.#duplicatePercent = [0, 5, 25][random.int(3)];
    this.#maxDelay = [1, 5, 20, 120][random.int(4)];
    this.#chaosInterval = [15, 60, 200, 600][random.int(4)];
    this.#isHostile = random.oneIn(2);
    this.#limits = random.oneIn(2) ? NARROW_LIMITS : LIMITS;
    this.#checker = new Checker(count);
    for (let index = 0; index < count; index++) {
      const acceptor = new SimAcceptor(
        index,
        IDENTITY,
        this.#machines,
        this.#scheduler,
        random,
        this,
        this.#limits,
      );
      if (random.oneIn(5)) acceptor.slowness = 10 + random.int(50);
      this.#acceptors.push(acceptor);
    }
    this.trace(
      `${count} acceptors, ${this.#lossPercent}% lost, ${this.#duplicatePercent}% doubled, ` +
        `delay up to ${this.#maxDelay} ms, something happens every ${this.#chaosInterval} ms` +
        (this.#isHostile ? ", somebody is hostile" : "") +
        (this.#limits === LIMITS ? "" : ", records are long"),
    );
  }

  run(): SimulationResult {
    this.#spawn();
    this.#chaos();
    this.#advance(CHAOS_MS);
    this.#heal();
    const goal = this.#checker.committed.length + PROGRESS_RECORDS * RECORD_BYTES;
    const deadline = this.#scheduler.now + HEAL_MS;
    while (!this.#isDone(goal)) {
      if (this.#scheduler.now >= deadline) {
        throw new Violation(`no progress in ${HEAL_MS} ms after the healing`);
      }
      this.#advance(this.#scheduler.now + 100);
    }
    return {
      steps: this.#steps,
      terms: this.#checker.electedTerms,
      committedRecords: this.#checker.committed.length / RECORD_BYTES,
      crashes: this.#crashes,
      refusals: this.#refusals,
      longRecords: this.#longRecords,
      postgresFetches: this.#postgresFetches,
    };
  }

  // --- what the acceptors report

  changed(acceptor: SimAcceptor): void {
    if (acceptor.state === undefined) return;
    const durableEnds = this.#acceptors.map(({ durable }) => TIMELINE_START + durable.length);
    this.#guard(() => this.#checker.acceptor(acceptor.index, acceptor.state!, acceptor.wal, durableEnds));
  }

  sent(from: SimAcceptor | SimProposer, to: number, message: AcceptorMessage | ProposerMessage): void {
    const session = from instanceof SimAcceptor
      ? this.#sessions.find(({ id }) => id === to)
      : this.#sessions.find(({ proposer, acceptor, open }) =>
        open && proposer === from && acceptor.index === to
      );
    if (session === undefined) {
      const isVote = message.type === "VoteResponse" && message.granted;
      if (isVote && from instanceof SimAcceptor && this.#hostileSessions.has(to)) {
        this.#guard(() => this.#checker.voted(from.index, message.term, "somebody hostile"));
      }
      return;
    }
    const isAnswer = from instanceof SimAcceptor;
    if (this.#trace !== undefined) {
      const { acceptor, proposer } = session;
      this.trace(
        isAnswer
          ? `  ${acceptor.index} -> ${proposer.name}: ${show(message)}`
          : `  ${proposer.name} -> ${acceptor.index}: ${show(message)}`,
      );
    }
    if (message.type === "VoteResponse" && message.granted) {
      this.#guard(() => this.#checker.voted(session.acceptor.index, message.term, session.proposer.name));
    }
    const copies = this.#chance(this.#lossPercent) ? 0 : this.#chance(this.#duplicatePercent) ? 2 : 1;
    for (let i = 0; i < copies; i++) {
      this.#scheduler.after(this.#delay(), () => {
        if (this.#parted.has(pair(session.proposer, session.acceptor))) return;
        // What was on its way when a connection ended may still be taken from it by the acceptor, not by the proposer.
        if (isAnswer) {
          if (session.open) this.#answer(session, message as AcceptorMessage);
        } else {
          session.acceptor.deliver({
            type: "message",
            session: session.id,
            message: message as ProposerMessage,
          });
        }
      });
    }
  }

  /** What a proposer takes offence at no acceptor can have said. */
  #answer({ proposer, acceptor }: Session, message: AcceptorMessage): void {
    try {
      proposer.receive(acceptor.index, message);
    } catch (error) {
      throw error instanceof ZenithError ? new Violation(error.message) : error;
    }
  }

  /** Only what can't be is refused, and messages before a ServerInfo that was lost. */
  refused(acceptor: SimAcceptor, session: number, error: ZenithError): void {
    this.trace(`  session ${session} is refused: ${error.message}`);
    if (this.#hostileSessions.has(session)) {
      this.#refusals++;
      if (this.#hostile.get(acceptor) === session) this.#leaveHostile(acceptor);
      return;
    }
    if (error.kind === "conflict") {
      throw new Violation(`acceptor ${acceptor.index} refuses: ${error.message}`);
    }
    const refused = this.#sessions.find(({ id }) => id === session);
    if (refused !== undefined) this.#closeSession(refused);
  }

  // --- what the proposers report

  fetch(proposer: SimProposer, effect: Extract<ProposerEffect, { type: "fetch" }>): void {
    const { peer, from, to, term } = effect;
    if (effect.source === POSTGRES) {
      this.#fetchFromPostgres(proposer, effect);
      return;
    }
    const source = this.#acceptors[effect.source];
    const answer = (): void => {
      const state = source.state;
      const reachable = !this.#parted.has(pair(proposer, source)) && !this.#chance(this.#lossPercent);
      if (!reachable || state === undefined || state.term !== term || state.durableLsn < to) {
        proposer.step({ type: "fetchFailed", peer });
        return;
      }
      const length = 1 + this.#random.int(to - from);
      const bytes = source.wal.slice(from - TIMELINE_START, from - TIMELINE_START + length);
      proposer.step({ type: "fetched", peer, lsn: from, bytes });
    };
    this.#scheduler.after(2 * this.#delay(), answer);
  }

  /** Postgres keeps what was not confirmed to it, and may have removed what was. */
  #fetchFromPostgres(proposer: SimProposer, effect: Extract<ProposerEffect, { type: "fetch" }>): void {
    const { peer, from, to } = effect;
    this.#postgresFetches++;
    this.#guard(() => this.#checker.askedOfPostgres(proposer.name, from, to, proposer.state));
    this.#scheduler.after(this.#delay(), () => {
      if (from < proposer.state.commitLsn || this.#chance(this.#lossPercent)) {
        proposer.step({ type: "fetchFailed", peer });
        return;
      }
      const bytes = proposer.postgresWal(from, (from + 1 + this.#random.int(to - from)) as Lsn);
      proposer.step({ type: "fetched", peer, lsn: from, bytes });
    });
  }

  elected(proposer: SimProposer): void {
    const { term, epochStartLsn, history } = proposer.state;
    this.trace(`${proposer.name} is elected in term ${term} at ${epochStartLsn}`);
    this.#guard(() => this.#checker.elected(term, proposer.name, epochStartLsn, history));
  }

  wrote(proposer: SimProposer, record: Uint8Array): void {
    if (record.length > this.#limits.inFlightBytes) this.#longRecords++;
    this.#checker.logs.append(proposer.state.term, record);
  }

  acknowledged(proposer: SimProposer, lsn: Lsn): void {
    this.trace(`${proposer.name} commits ${lsn}`);
    const durable = this.#acceptors.map((acceptor) => ({ bytes: acceptor.durable }));
    this.#guard(() => this.#checker.acknowledged(proposer.state.term, proposer.state.history, lsn, durable));
  }

  trace(text: string): void {
    this.#trace?.(`${this.#scheduler.now.toFixed(2).padStart(10)} ${text}`);
  }

  // --- the world

  #advance(until: number): void {
    while (this.#failure === undefined && this.#scheduler.step(until)) this.#steps++;
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** A violation inside of a machine's step must not be taken for something that the machine did. */
  #guard(check: () => void): void {
    try {
      check();
    } catch (error) {
      this.#failure ??= error;
      this.trace(`!!! ${(error as Error).message}`);
    }
  }

  #spawn(): void {
    const name = `p${this.#proposers.length}`;
    this.trace(`${name} starts`);
    const spawned = new SimProposer(
      name,
      serverInfoOf(this.#proposers.length),
      this.#acceptors.length,
      this.#machines,
      this.#scheduler,
      this.#random,
      this,
      this.#limits,
    );
    this.#proposers.push(spawned);
    for (const acceptor of this.#acceptors) this.#connectLater(spawned, acceptor);
  }

  #connectLater(proposer: SimProposer, acceptor: SimAcceptor): void {
    this.#scheduler.after(1 + this.#random.int(this.#healed ? 10 : 80), () => {
      if (!proposer.alive) return;
      if (acceptor.state === undefined || this.#parted.has(pair(proposer, acceptor))) {
        this.#connectLater(proposer, acceptor);
        return;
      }
      this.#sessions.push({ id: this.#nextSession++, proposer, acceptor, open: true });
      proposer.step({ type: "connected", peer: acceptor.index });
    });
  }

  #closeSession(session: Session): void {
    if (!session.open) return;
    session.open = false;
    session.proposer.step({ type: "disconnected", peer: session.acceptor.index });
    this.#scheduler.after(this.#delay(), () => {
      session.acceptor.deliver({ type: "closed", session: session.id });
    });
    this.#connectLater(session.proposer, session.acceptor);
  }

  #crash(acceptor: SimAcceptor): void {
    this.#crashes++;
    acceptor.crash();
    this.#hostile.delete(acceptor);
    for (const session of this.#sessions) {
      if (session.acceptor === acceptor) this.#closeSession(session);
    }
    this.#sessions = this.#sessions.filter(({ open }) => open);
  }

  #kill(proposer: SimProposer): void {
    this.trace(`${proposer.name} dies`);
    proposer.alive = false;
    for (const session of this.#sessions) {
      if (session.proposer === proposer) this.#closeSession(session);
    }
  }

  /** Says one thing to an acceptor, in a session of its own. */
  #attack(acceptor: SimAcceptor): void {
    if (acceptor.state === undefined) return;
    let session = this.#hostile.get(acceptor);
    if (session === undefined) {
      session = this.#nextSession++;
      this.#hostile.set(acceptor, session);
      this.#hostileSessions.add(session);
      acceptor.deliver({ type: "message", session, message: hostileGreeting(SERVER_INFO) });
    }
    const message = hostileMessage(acceptor.state, SERVER_INFO, this.#random);
    this.trace(`  somebody -> ${acceptor.index}: ${show(message)}`);
    acceptor.deliver({ type: "message", session, message });
  }

  #leaveHostile(acceptor: SimAcceptor): void {
    const session = this.#hostile.get(acceptor);
    if (session === undefined) return;
    this.#hostile.delete(acceptor);
    this.#scheduler.after(this.#delay(), () => acceptor.deliver({ type: "closed", session }));
  }

  #chaos(): void {
    this.#scheduler.after(1 + this.#random.int(2 * this.#chaosInterval), () => {
      if (this.#healed) return;
      if (this.#isHostile) {
        for (let i = this.#random.int(4); i > 0; i--) {
          this.#attack(this.#acceptors[this.#random.int(this.#acceptors.length)]);
        }
      }
      this.#disturb();
      this.#chaos();
    });
  }

  #disturb(): void {
    const random = this.#random;
    const acceptor = this.#acceptors[random.int(this.#acceptors.length)];
    const proposers = this.#proposers.filter(({ alive }) => alive);
    const proposer = proposers.length === 0 ? undefined : proposers[random.int(proposers.length)];
    switch (random.int(9)) {
      case 0:
      case 1:
        if (acceptor.state === undefined) acceptor.start();
        else this.#crash(acceptor);
        break;
      case 2:
        if (acceptor.state === undefined) acceptor.start();
        break;
      case 3:
        if (proposers.length < 2) this.#spawn();
        break;
      case 4:
        if (proposer !== undefined && random.oneIn(2)) this.#kill(proposer);
        if (proposers.length <= 1 && random.oneIn(2)) this.#spawn();
        break;
      case 5:
        if (proposer === undefined) break;
        if (!this.#parted.delete(pair(proposer, acceptor))) this.#parted.add(pair(proposer, acceptor));
        break;
      case 6:
        this.#parted.clear();
        break;
      case 8: {
        // The page server has made durable what it could read here.
        const { commitLsn } = acceptor.state ?? { commitLsn: INVALID_LSN };
        if (commitLsn > INVALID_LSN) {
          this.#checker.pageServerHas(commitLsn);
          acceptor.deliver({ type: "feedback", remoteConsistentLsn: commitLsn });
        }
        break;
      }
      case 7: {
        const open = this.#sessions.filter((session) => session.open);
        if (open.length > 0) this.#closeSession(open[random.int(open.length)]);
        break;
      }
    }
  }

  #heal(): void {
    this.trace("--- everything heals");
    this.#healed = true;
    this.#parted.clear();
    for (const acceptor of this.#acceptors) {
      this.#leaveHostile(acceptor);
      acceptor.slowness = 1;
      if (acceptor.state === undefined) acceptor.start();
    }
    if (!this.#proposers.some(({ alive }) => alive)) this.#spawn();
  }

  /** More is committed, and every acceptor has it. */
  #isDone(goalBytes: number): boolean {
    // Two that compete may both end: a third one takes over, as a compute is started again.
    if (!this.#proposers.some(({ alive }) => alive)) this.#spawn();
    if (this.#checker.committed.length < goalBytes) return false;
    return this.#acceptors.every(({ state }) =>
      state !== undefined && state.timelineStartLsn !== INVALID_LSN &&
      state.commitLsn >= TIMELINE_START + goalBytes
    );
  }

  #chance(percent: number): boolean {
    return !this.#healed && this.#random.int(100) < percent;
  }

  #delay(): number {
    return 0.05 + this.#random.int(100) / 100 * (this.#healed ? 1 : this.#maxDelay);
  }
}

function pair(proposer: SimProposer, acceptor: SimAcceptor): string {
  return `${proposer.name}/${acceptor.index}`;
}

function show(message: AcceptorMessage | ProposerMessage): string {
  return JSON.stringify(
    message,
    (key, value) =>
      key === "bytes"
        ? `${(value as Uint8Array).length} bytes`
        : typeof value === "bigint"
        ? String(value)
        : value,
  );
}
