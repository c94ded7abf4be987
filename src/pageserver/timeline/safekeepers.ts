/** Remembers which safekeepers have a timeline's WAL. */
import type { Disk } from "../../common/disk.ts";
import { errorMessage, ZenithError } from "../../common/errors.ts";
import { formatHostPort, type HostPort, parseHostPort } from "../../common/host_port.ts";
import { SmallFile, type SmallFormat } from "../../common/small_file.ts";

/** One line `host:port` per safekeeper. */
const FORMAT: SmallFormat<readonly HostPort[]> = {
  title: "zenith safekeepers",
  encode: (list) => list.map(formatHostPort),
  decode: (lines) => lines.map(parseHostPort),
};

/**
 * Names the safekeepers that may have WAL of one timeline which has not arrived here yet, as
 * reported by the timeline's last compute. A compute that used other safekeepers would start where
 * the page server is and silently lose the rest of the WAL.
 */
export class TimelineSafekeepers {
  readonly #file: SmallFile<readonly HostPort[]>;
  #list: readonly HostPort[] = [];
  #damage: ZenithError | null = null;

  /** @throws {ZenithError} `io` */
  constructor(disk: Disk, path: string) {
    this.#file = new SmallFile(disk, path, FORMAT);
    try {
      this.#list = this.#file.read() ?? [];
    } catch (error) {
      if (!(error instanceof ZenithError) || error.kind !== "corrupt_data") throw error;
      // The timeline can still be read.
      this.#damage = new ZenithError(
        "corrupt_data",
        `${errorMessage(error)}: who has the timeline's WAL is not known`,
        {
          hint: `write it anew: a line "${FORMAT.title} 1", then a line host:port for each safekeeper`,
          cause: error,
        },
      );
    }
  }

  /** @throws {ZenithError} `corrupt_data` when the list is not known */
  get list(): readonly HostPort[] {
    if (this.#damage !== null) throw this.#damage;
    return this.#list;
  }

  /** Why {@link list} is not known; null when it is known. */
  get damage(): ZenithError | null {
    return this.#damage;
  }

  /**
   * Sets the list. It is durable when the promise resolves. @throws {ZenithError} `disk_full`, `io`
   */
  async set(list: readonly HostPort[]): Promise<void> {
    const isSame = list.map(formatHostPort).join() === this.#list.map(formatHostPort).join();
    if (isSame && this.#damage === null) return;
    await this.#file.write(list);
    this.#list = list;
    this.#damage = null;
  }
}
