import { type Disk, replaceFileSync } from "../../common/disk.ts";
import { ioError, ZenithError } from "../../common/errors.ts";
import { formatHostPort, type HostPort, parseHostPort } from "../../common/host_port.ts";

/** The first line of the file, with the format's version; then a line `host:port` for each. */
const FIRST_LINE = "zenith safekeepers 1";

/**
 * Which safekeepers have the WAL of one timeline that may not be here yet, as its last compute has said. A compute that
 * names others would begin where the page server is, and not know of what it leaves behind.
 */
export class TimelineSafekeepers {
  readonly #disk: Disk;
  readonly #directory: string;
  readonly #path: string;
  #list: readonly HostPort[];

  /** @throws {ZenithError} `corrupt_data`, `io` */
  constructor(disk: Disk, directory: string, path: string) {
    this.#disk = disk;
    this.#directory = directory;
    this.#path = path;
    this.#list = disk.statSync(path) === null ? [] : decode(disk.readFileSync(path), path);
  }

  get list(): readonly HostPort[] {
    return this.#list;
  }

  /** Durable when it returns. @throws {ZenithError} `disk_full`, `io` */
  set(list: readonly HostPort[]): void {
    if (list.map(formatHostPort).join() === this.#list.map(formatHostPort).join()) return;
    const text = [FIRST_LINE, ...list.map(formatHostPort), ""].join("\n");
    try {
      replaceFileSync(this.#disk, this.#directory, this.#path, new TextEncoder().encode(text));
    } catch (error) {
      throw ioError("write safekeepers", this.#path, error);
    }
    this.#list = list;
  }
}

function decode(bytes: Uint8Array, path: string): HostPort[] {
  const [first, ...lines] = new TextDecoder().decode(bytes).split("\n");
  if (first !== FIRST_LINE || lines.pop() !== "") {
    throw new ZenithError("corrupt_data", `${path} begins with "${first}", expected "${FIRST_LINE}"`);
  }
  try {
    return lines.map(parseHostPort);
  } catch (error) {
    throw new ZenithError("corrupt_data", `${path} holds what is no address`, { cause: error });
  }
}
