/**
 * The slots of a timeline's standbys at one safekeeper: for whom it keeps WAL, from where on, and
 * how much at most. docs/formats/small_files.md describes the file.
 */
import type { Disk } from "../common/disk.ts";
import { ZenithError } from "../common/errors.ts";
import { formatLsn, type Lsn, maxLsn, parseLsn } from "../common/lsn.ts";
import { SmallFile, type SmallFormat } from "../common/small_file.ts";
import { checkSlotName } from "../pgwire/replication.ts";

/** The most slots of a timeline. Each lookup reads all of them. */
const SLOTS_MAX = 100;

interface Slot {
  readonly name: string;
  /** What the standby has durably, as far as it has said so here. */
  restartLsn: Lsn;
  /** How much WAL is kept for it. */
  maxBytes: number;
}

/** A slot as others see it. */
export interface StandbySlot extends Readonly<Slot> {
  /** Whether a standby reads through it, here. */
  readonly active: boolean;
}

/** A standby that reads through its slot. */
export interface SlotUse extends Disposable {
  /** Notes what the standby has durably. */
  confirm(lsn: Lsn): void;
}

/** A line is `<name> <restart LSN> <bytes>`. */
export const STANDBY_SLOTS_FORMAT: SmallFormat<readonly Readonly<Slot>[]> = {
  title: "zenith standby slots",
  encode: (slots) =>
    slots.map(({ name, restartLsn, maxBytes }) => `${name} ${formatLsn(restartLsn)} ${maxBytes}`),
  decode: (lines) =>
    lines.map((line) => {
      const match = /^(\S+) (\S+) (\d{1,15})$/.exec(line);
      if (match === null) throw new Error(`"${line.slice(0, 100)}" is no slot`);
      checkSlotName(match[1]);
      return { name: match[1], restartLsn: parseLsn(match[2]), maxBytes: Number(match[3]) };
    }),
};

export class StandbySlots {
  readonly #file: SmallFile<readonly Readonly<Slot>[]>;
  readonly #slots = new Map<string, Slot>();
  readonly #active = new Set<string>();
  #isSaved = true;

  /**
   * Reads the timeline's slots. A damaged file is set aside: it must not stop commits.
   *
   * @throws {ZenithError} `io`
   */
  constructor(disk: Disk, path: string) {
    this.#file = new SmallFile(disk, path, STANDBY_SLOTS_FORMAT);
    for (const slot of this.#file.readOrSetAside() ?? []) this.#slots.set(slot.name, { ...slot });
  }

  /** Says why the file was set aside; null if it was not. @throws {ZenithError} `io` */
  damage(): string | null {
    return this.#file.damage();
  }

  list(): StandbySlot[] {
    return [...this.#slots.values()].map((slot) => ({ ...slot, active: this.#active.has(slot.name) }));
  }

  /**
   * Creates a slot that keeps WAL from `lsn` on, or gives the one of that name another limit.
   *
   * @throws {ZenithError} `invalid_argument`, `conflict` when there are too many, `disk_full`, `io`
   */
  async create(name: string, lsn: Lsn, maxBytes: number): Promise<void> {
    checkSlotName(name);
    const slot = this.#slots.get(name);
    if (slot === undefined && this.#slots.size >= SLOTS_MAX) {
      throw new ZenithError("conflict", `there are ${SLOTS_MAX} standby slots already`, {
        hint: '"zenith standby drop" drops those that nobody uses',
      });
    }
    if (slot === undefined) this.#slots.set(name, { name, restartLsn: lsn, maxBytes });
    else slot.maxBytes = maxBytes;
    await this.#write();
  }

  /** @throws {ZenithError} `not_found`, `conflict` while a standby uses it, `disk_full`, `io` */
  async drop(name: string): Promise<void> {
    this.#find(name);
    if (this.#active.has(name)) throw inUse(name);
    this.#slots.delete(name);
    await this.#write();
  }

  /**
   * Begins to use a slot. Undefined when there is no such slot here: the standby must be able to
   * read from a safekeeper that has lost its disk.
   *
   * @throws {ZenithError} `conflict` while another standby uses it
   */
  use(name: string): SlotUse | undefined {
    const slot = this.#slots.get(name);
    if (slot === undefined) return undefined;
    if (this.#active.has(name)) throw inUse(name);
    this.#active.add(name);
    return {
      confirm: (lsn) => {
        if (lsn <= slot.restartLsn) return;
        slot.restartLsn = lsn;
        this.#isSaved = false;
      },
      [Symbol.dispose]: () => void this.#active.delete(name),
    };
  }

  /**
   * From where on WAL is kept.
   *
   * @param endLsn where the committed WAL ends
   */
  keepFrom(endLsn: Lsn): Lsn {
    let lsn = endLsn;
    for (const { restartLsn, maxBytes } of this.#slots.values()) {
      const wanted = maxLsn(restartLsn, Math.max(0, endLsn - maxBytes) as Lsn);
      if (wanted < lsn) lsn = wanted;
    }
    return lsn;
  }

  /** Stores the positions. @throws {ZenithError} `disk_full`, `io` */
  async save(): Promise<void> {
    if (!this.#isSaved) await this.#write();
  }

  async #write(): Promise<void> {
    this.#isSaved = true;
    try {
      await this.#file.write([...this.#slots.values()]);
    } catch (error) {
      this.#isSaved = false;
      throw error;
    }
  }

  #find(name: string): Slot {
    const slot = this.#slots.get(name);
    if (slot !== undefined) return slot;
    throw new ZenithError("not_found", `there is no standby slot ${name} here`);
  }
}

function inUse(name: string): ZenithError {
  return new ZenithError("conflict", `standby slot ${name} is in use by another standby`, {
    hint: 'each standby has a slot of its own: "zenith pg standby <branch> --slot <name>"',
  });
}
