/** An acceptor with a disk that forgets: the driver of the acceptor's state machine in the simulation. */
import type { ZenithError } from "../../src/common/errors.ts";
import { INVALID_LSN, type Lsn } from "../../src/common/lsn.ts";
import {
  type AcceptorControl,
  type AcceptorEffect,
  type AcceptorEvent,
  type AcceptorState,
  controlOf,
  newAcceptorControl,
  startAcceptor,
} from "../../src/consensus/acceptor.ts";
import type { Limits } from "../../src/consensus/limits.ts";
import type { AcceptorMessage, TimelineIdentity } from "../../src/consensus/messages.ts";
import type { Random } from "../harness/random.ts";
import type { Machines } from "./machines.ts";
import type { Scheduler } from "./scheduler.ts";
import { boundary, concat, TIMELINE_START } from "./sim_log.ts";

const NO_BYTES = new Uint8Array(0);
/** So long the beginning of a record waits for more. */
const QUIET_MS = 25;

export interface AcceptorHost {
  /** Effects of an event are done: the state and the disk agree. */
  changed(acceptor: SimAcceptor): void;
  sent(acceptor: SimAcceptor, session: number, message: AcceptorMessage): void;
  refused(acceptor: SimAcceptor, session: number, error: ZenithError): void;
  trace(text: string): void;
}

export class SimAcceptor {
  readonly index: number;
  /** Undefined while it is down. */
  state: AcceptorState | undefined;
  /** Multiplies what the disk needs. */
  slowness = 1;

  // The disk.
  #control: AcceptorControl = newAcceptorControl();
  #wal: Uint8Array = NO_BYTES;
  #durableBytes = 0;

  readonly #identity: TimelineIdentity;
  readonly #machines: Machines;
  readonly #scheduler: Scheduler;
  readonly #random: Random;
  readonly #host: AcceptorHost;
  readonly #limits: Limits;
  #inbox: AcceptorEvent[] = [];
  #effects: AcceptorEffect[] = [];
  #busy = false;
  /** Number of starts: what the disk was asked to do in an earlier life does not come back. */
  #life = 0;

  constructor(
    index: number,
    identity: TimelineIdentity,
    machines: Machines,
    scheduler: Scheduler,
    random: Random,
    host: AcceptorHost,
    limits: Limits,
  ) {
    this.index = index;
    this.#identity = identity;
    this.#machines = machines;
    this.#scheduler = scheduler;
    this.#random = random;
    this.#host = host;
    this.#limits = limits;
    this.start();
  }

  /** What it holds from the timeline's start. */
  get wal(): Uint8Array {
    return this.#wal;
  }

  /** The part of it that a crash leaves. */
  get durable(): Uint8Array {
    return this.#wal.subarray(0, this.#durableBytes);
  }

  start(): void {
    const end = this.#control.timelineStartLsn === INVALID_LSN ? INVALID_LSN : this.#endLsn();
    this.#life++;
    this.state = startAcceptor(this.#control, this.#identity, this.index, end, this.#limits);
    this.#host.trace(`acceptor ${this.index} starts in term ${this.state.term} at ${end}`);
    this.#host.changed(this);
  }

  crash(): void {
    this.state = undefined;
    this.#inbox = [];
    this.#busy = false;
    // What was asked of the disk last may have been done, or not, or in part.
    const [pending] = this.#effects;
    if (pending?.type === "persist" && this.#random.oneIn(2)) this.#control = pending.control;
    if (pending?.type === "truncate") {
      const kept = this.#random.int(TIMELINE_START + this.#wal.length - pending.lsn + 1);
      this.#cut((pending.lsn + kept) as Lsn);
    }
    this.#effects = [];
    const unsynced = this.#wal.length - this.#durableBytes;
    const kept = this.#durableBytes + this.#random.int(unsynced + 1);
    // A record that is torn is not found again.
    this.#wal = this.#wal.subarray(0, boundary(this.#wal.subarray(0, kept)) - TIMELINE_START);
    this.#durableBytes = this.#wal.length;
    this.#host.trace(`acceptor ${this.index} crashes, keeps ${TIMELINE_START + this.#wal.length}`);
  }

  deliver(event: AcceptorEvent): void {
    if (this.state === undefined) return;
    this.#inbox.push(event);
    if (!this.#busy) this.#next();
  }

  #next(): void {
    const state = this.state!;
    const event = this.#inbox.shift() ?? { type: "idle" };
    this.#effects = this.#machines.stepAcceptor(state, event);
    if (event.type === "idle" && this.#effects.length === 0) {
      this.#busy = false;
      this.#host.changed(this);
      // The lower bounds in the control record are brought up to date now and then.
      if (this.#random.oneIn(20)) this.#control = controlOf(state);
      if (state.writtenLsn > state.durableLsn) {
        this.#scheduler.after(QUIET_MS, this.#inThisLife(() => this.deliver({ type: "quiet" })));
      }
      return;
    }
    this.#busy = true;
    this.#carryOut();
  }

  /** Does what the last event asked for, in order; then takes the next event. */
  #carryOut(): void {
    for (;;) {
      const effect = this.#effects[0];
      if (effect === undefined) break;
      switch (effect.type) {
        case "persist":
          return this.#later(() => this.#control = effect.control);
        case "init":
          return this.#later(() => {
            this.#wal = NO_BYTES;
            this.#durableBytes = 0;
          });
        case "truncate":
          return this.#later(() => {
            this.#cut(effect.lsn);
            this.#durableBytes = this.#wal.length;
          });
        case "write": {
          this.#wal = concat(this.#wal, effect.bytes.subarray(effect.off));
          const writtenLsn = (TIMELINE_START + this.#wal.length) as Lsn;
          this.#inbox.unshift({ type: "written", writtenLsn, recordEndLsn: boundary(this.#wal) });
          break;
        }
        case "sync":
          this.#sync(effect.cuts);
          break;
        case "send":
          this.#host.sent(this, effect.session, effect.message);
          break;
        case "refuse":
          this.#host.refused(this, effect.session, effect.error);
          break;
        case "committed":
          break;
      }
      this.#effects.shift();
    }
    // `written` belongs to the event before: only behind it do state and disk agree.
    if (this.#inbox[0]?.type !== "written") this.#host.changed(this);
    this.#scheduler.after(0, this.#inThisLife(() => this.#next()));
  }

  #later(done: () => void): void {
    this.#scheduler.after(
      this.#diskTime(),
      this.#inThisLife(() => {
        done();
        this.#effects.shift();
        this.#carryOut();
      }),
    );
  }

  #sync(cuts: number): void {
    const covered = this.#wal.length;
    const state = this.state!;
    this.#scheduler.after(
      this.#diskTime(),
      this.#inThisLife(() => {
        if (cuts === state.cuts) this.#durableBytes = Math.max(this.#durableBytes, covered);
        this.deliver({ type: "synced", cuts });
      }),
    );
  }

  #cut(lsn: Lsn): void {
    this.#wal = this.#wal.subarray(0, lsn - TIMELINE_START);
    this.#durableBytes = Math.min(this.#durableBytes, this.#wal.length);
  }

  #endLsn(): Lsn {
    return boundary(this.#wal);
  }

  #diskTime(): number {
    return (0.1 + this.#random.int(100) / 50) * this.slowness;
  }

  #inThisLife(run: () => void): () => void {
    const life = this.#life;
    return () => {
      if (this.state !== undefined && this.#life === life) run();
    };
  }
}
