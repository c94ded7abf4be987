/** A compute: the driver of the proposer's state machine in the simulation, and a client that writes records. */
import { INVALID_LSN, type Lsn } from "../../src/common/lsn.ts";
import type { AcceptorMessage, ProposerMessage, ServerInfo } from "../../src/consensus/messages.ts";
import {
  type ProposerEffect,
  type ProposerEvent,
  type ProposerState,
  settledLsn,
  startProposer,
} from "../../src/consensus/proposer.ts";
import { LIMITS, type Limits } from "../../src/consensus/limits.ts";
import type { Random } from "../harness/random.ts";
import type { Machines } from "./machines.ts";
import type { Scheduler } from "./scheduler.ts";
import { concat, makeRecord, RECORD_BYTES, TIMELINE_START } from "./sim_log.ts";

const TICK_MS = 60;
const ELECTION_TIMEOUT_MIN_MS = 150;
const WRITE_INTERVAL_MAX_MS = 12;
/** WAL kept at hand; small, so that acceptors that lag are fed by others. */
const WINDOW_RECORDS = 8;
/** Where there are long records: one of so many, of up to so many times 16 bytes. */
const LONG_ONE_IN = 6;
const LONG_UNITS = 128;
const UNSETTLED_MAX_BYTES = 4096;

export interface ProposerHost {
  sent(proposer: SimProposer, peer: number, message: ProposerMessage): void;
  fetch(proposer: SimProposer, effect: Extract<ProposerEffect, { type: "fetch" }>): void;
  elected(proposer: SimProposer): void;
  wrote(proposer: SimProposer, record: Uint8Array): void;
  acknowledged(proposer: SimProposer, lsn: Lsn): void;
  trace(text: string): void;
}

export class SimProposer {
  readonly name: string;
  readonly state: ProposerState;
  alive = true;
  /** May write: Postgres has started. */
  running = false;
  records = 0;

  readonly #machines: Machines;
  readonly #scheduler: Scheduler;
  readonly #random: Random;
  readonly #host: ProposerHost;
  readonly #hasLongRecords: boolean;
  /** Its own WAL, from the start of its term. */
  #wal: Uint8Array = new Uint8Array(0);

  constructor(
    name: string,
    serverInfo: ServerInfo,
    acceptorCount: number,
    machines: Machines,
    scheduler: Scheduler,
    random: Random,
    host: ProposerHost,
    limits: Limits,
  ) {
    this.name = name;
    this.#machines = machines;
    this.#scheduler = scheduler;
    this.#random = random;
    this.#host = host;
    this.#hasLongRecords = limits !== LIMITS;
    this.state = startProposer({ serverInfo, acceptorCount, timelineStartLsn: TIMELINE_START, limits });
    for (let peer = 0; peer < acceptorCount; peer++) {
      this.#every(TICK_MS, () => this.step({ type: "tick", peer }));
    }
    this.#electionTimer();
  }

  get endLsn(): Lsn {
    return this.state.localEndLsn;
  }

  step(event: ProposerEvent): void {
    if (!this.alive) return;
    for (const effect of this.#machines.stepProposer(this.state, event)) this.#carryOut(effect);
    if (event.type !== "localTrimmed") this.#trim();
  }

  receive(peer: number, message: AcceptorMessage): void {
    this.step({ type: "message", peer, message });
  }

  /** Appends one record. */
  write(): void {
    if (!this.alive || !this.running || this.state.phase !== "elected") return;
    // Held back as the real one is, or a long record would be little beside what waits with it.
    if (this.state.localEndLsn - settledLsn(this.state) > UNSETTLED_MAX_BYTES) return;
    const units = this.#hasLongRecords && this.#random.oneIn(LONG_ONE_IN)
      ? 1 + this.#random.int(LONG_UNITS)
      : 1;
    const record = makeRecord(this.state.term, this.records++, this.state.localEndLsn, units);
    this.#wal = concat(this.#wal, record);
    this.#host.wrote(this, record);
    this.step({ type: "localAdvanced", endLsn: (this.state.localEndLsn + record.length) as Lsn });
  }

  /** What Postgres has of this term from `lsn` on. */
  postgresWal(from: Lsn, to: Lsn): Uint8Array {
    return this.#wal.slice(from - this.state.epochStartLsn, to - this.state.epochStartLsn);
  }

  #trim(): void {
    const { phase, localStartLsn, localEndLsn } = this.state;
    if (phase !== "elected") return;
    const window = Math.min(settledLsn(this.state), localEndLsn - WINDOW_RECORDS * RECORD_BYTES);
    if (window > localStartLsn) this.step({ type: "localTrimmed", startLsn: window as Lsn });
  }

  #carryOut(effect: ProposerEffect): void {
    switch (effect.type) {
      case "send":
        this.#host.sent(this, effect.peer, effect.message);
        break;
      case "append": {
        const from = effect.beginLsn - this.state.epochStartLsn;
        const bytes = this.#wal.subarray(from, effect.endLsn - this.state.epochStartLsn);
        this.#sendPieces(effect, bytes);
        break;
      }
      case "fetch":
        this.#host.fetch(this, effect);
        break;
      case "elected":
        this.#host.elected(this);
        break;
      case "committed":
        this.#host.acknowledged(this, effect.lsn);
        if (!this.running) {
          this.running = true;
          this.#writeLater();
        }
        break;
      case "remoteConsistent":
        break;
      case "fenced":
        this.#host.trace(`${this.name} is fenced by term ${effect.term}`);
        this.alive = false;
        break;
    }
  }

  /** In up to three messages, cut anywhere, as Postgres cuts its WAL where it likes. */
  #sendPieces(effect: Extract<ProposerEffect, { type: "append" }>, bytes: Uint8Array): void {
    const { term, beginLsn, commitLsn, truncateLsn, remoteConsistentLsn } = effect;
    const cuts = [0, this.#random.int(bytes.length + 1), this.#random.int(bytes.length + 1), bytes.length];
    cuts.sort((a, b) => a - b);
    for (let i = 0; i + 1 < cuts.length; i++) {
      const from = cuts[i];
      const to = cuts[i + 1];
      if (from === to && bytes.length > 0) continue;
      this.#host.sent(this, effect.peer, {
        type: "AppendRequest",
        term,
        beginLsn: (beginLsn + from) as Lsn,
        commitLsn,
        truncateLsn,
        remoteConsistentLsn,
        bytes: bytes.subarray(from, to),
      });
      if (bytes.length === 0) return;
    }
  }

  #writeLater(): void {
    this.#scheduler.after(1 + this.#random.int(WRITE_INTERVAL_MAX_MS), () => {
      if (!this.alive) return;
      this.write();
      this.#writeLater();
    });
  }

  #electionTimer(): void {
    this.#scheduler.after(ELECTION_TIMEOUT_MIN_MS + this.#random.int(2 * ELECTION_TIMEOUT_MIN_MS), () => {
      if (!this.alive) return;
      if (this.state.phase === "campaigning") this.step({ type: "electionTimeout" });
      if (this.state.commitLsn === INVALID_LSN) this.#electionTimer();
    });
  }

  #every(interval: number, run: () => void): void {
    this.#scheduler.after(interval / 2 + this.#random.int(interval), () => {
      if (!this.alive) return;
      run();
      this.#every(interval, run);
    });
  }
}
