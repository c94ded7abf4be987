/** Keeps the settings of one timeline. Each version names the LSN from which it applies. */
import type { Disk } from "../../common/disk.ts";
import { ZenithError } from "../../common/errors.ts";
import { formatLsn, type Lsn, parseLsn } from "../../common/lsn.ts";
import { SmallFile, type SmallFormat } from "../../common/small_file.ts";
import { SETTINGS_WORD } from "../../protocol/branch_settings.ts";

/** A branch's settings from `lsn` on, as packed by its compute. */
export interface SettingsVersion {
  readonly lsn: Lsn;
  readonly settings: string;
}

/** One line `0/16B5A50 <settings>` per version, ascending. */
const FORMAT: SmallFormat<readonly SettingsVersion[]> = {
  title: "zenith settings",
  encode: (versions) => versions.map(({ lsn, settings }) => `${formatLsn(lsn)} ${settings}`),
  decode: (lines) =>
    lines.map((line) => {
      const [lsn = "", settings = ""] = line.split(" ");
      if (!SETTINGS_WORD.test(settings)) throw new Error(`"${settings.slice(0, 40)}" are no settings`);
      return { lsn: parseLsn(lsn), settings };
    }),
};

/** Only this many versions are kept, the newest ones: about 200 KB. */
const VERSIONS_MAX = 200;

export class TimelineSettings {
  readonly #file: SmallFile<readonly SettingsVersion[]>;
  #versions: readonly SettingsVersion[];
  /** Whether the file was damaged when it was opened here. */
  readonly #wasDamaged: boolean;

  /** @throws {ZenithError} `io` */
  constructor(disk: Disk, path: string) {
    this.#file = new SmallFile(disk, path, FORMAT);
    this.#versions = this.#file.readOrSetAside() ?? [];
    this.#wasDamaged = this.#file.damage() !== null;
  }

  /** Returns the settings that applied at `lsn`; undefined when this timeline had none yet. */
  at(lsn: Lsn): SettingsVersion | undefined {
    return this.#versions.findLast((version) => version.lsn <= lsn);
  }

  /**
   * Sets the settings that apply from `lsn` on. `lsn` must not be below that of an earlier version.
   * The settings are durable when the promise resolves.
   *
   * @throws {ZenithError} `invalid_argument`, `disk_full`, `io`
   */
  async set(lsn: Lsn, settings: string): Promise<void> {
    if (!SETTINGS_WORD.test(settings)) throw new ZenithError("invalid_argument", "these are no settings");
    if (this.#versions.at(-1)?.settings === settings) return;
    const before = this.#versions.filter((version) => version.lsn < lsn);
    const versions = [...before, { lsn, settings }].slice(-VERSIONS_MAX);
    await this.#file.write(versions);
    this.#versions = versions;
  }

  /**
   * What is wrong with the settings and what to do about it; null when nothing is wrong.
   * @throws {ZenithError} `io`
   */
  damage(): { readonly what: string; readonly hint: string } | null {
    const damage = this.#wasDamaged ? this.#file.damage() : null;
    if (damage === null) return null;
    return {
      what: `${damage}: the branch's settings are not known`,
      hint: 'set them with "zenith pg config", then remove that file',
    };
  }
}
