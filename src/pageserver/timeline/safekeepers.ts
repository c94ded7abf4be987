/** Remembers which safekeepers have a timeline's WAL. */
import type { Disk } from "../../common/disk.ts";
import { errorMessage, ZenithError } from "../../common/errors.ts";
import { formatHostPort, type HostPort, parseHostPort } from "../../common/host_port.ts";
import { SmallFile, type SmallFormat } from "../../common/small_file.ts";

/** One line `host:port` for each. */
const FORMAT: SmallFormat<readonly HostPort[]> = {
  title: "zenith safekeepers",
  encode: (list) => list.map(formatHostPort),
  decode: (lines) => lines.map(parseHostPort),
};

/**
 * Which safekeepers have WAL of one timeline that may not have arrived here yet, as its last
 * compute said. A compute that names others would begin where the page server is, unaware of what
 * it leaves behind.
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
      // The timeline can be read all the same.
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

  /** @throws {ZenithError} `corrupt_data` when it is not known */
  get list(): readonly HostPort[] {
    if (this.#damage !== null) throw this.#damage;
    return this.#list;
  }

  /** Why {@link list} is not known; null when it is. */
  get damage(): ZenithError | null {
    return this.#damage;
  }

  /** Durable when it resolves. @throws {ZenithError} `disk_full`, `io` */
  async set(list: readonly HostPort[]): Promise<void> {
    const isSame = list.map(formatHostPort).join() === this.#list.map(formatHostPort).join();
    if (isSame && this.#damage === null) return;
    await this.#file.write(list);
    this.#list = list;
    this.#damage = null;
  }
}
