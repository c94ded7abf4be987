/** Remembers which foreign primary a timeline follows. */
import type { Disk } from "../../common/disk.ts";
import { SmallFile, type SmallFormat } from "../../common/small_file.ts";

export interface FollowState {
  /** The connection string of the primary, perhaps with a password. */
  readonly source: string;
  /** The slot that keeps WAL there. Null when there is none any more. */
  readonly slot: string | null;
  /** The timeline, PostgreSQL's, that the primary's WAL is of. */
  readonly tli: number;
  /** The slot is given up when it holds back more WAL than this, in bytes. */
  readonly maxSlotBytes: number;
  /** Whether somebody has stopped it. */
  readonly isStopped: boolean;
}

/** docs/formats/small_files.md shows its lines. */
export const FOLLOW_FORMAT: SmallFormat<FollowState> = {
  title: "zenith follow",
  encode: ({ source, slot, tli, maxSlotBytes, isStopped }) => [
    `source ${source}`,
    `slot ${slot ?? "none"}`,
    `timeline ${tli}`,
    `limit ${maxSlotBytes}`,
    ...(isStopped ? ["stopped"] : []),
  ],
  decode: ([first = "", second = "", third = "", fourth = "", fifth]) => {
    const source = /^source (\S.*)$/.exec(first)?.[1];
    const slot = /^slot ([a-z0-9_]{1,63})$/.exec(second)?.[1];
    const tli = /^timeline (\d{1,10})$/.exec(third)?.[1];
    const limit = /^limit (\d{1,15})$/.exec(fourth)?.[1];
    if (source === undefined || slot === undefined || tli === undefined || limit === undefined) {
      throw new Error("this names no primary");
    }
    return {
      source,
      slot: slot === "none" ? null : slot,
      tli: Number(tli),
      maxSlotBytes: Number(limit),
      isStopped: fifth === "stopped",
    };
  },
};

/** The file in a timeline's directory. */
export function followFile(disk: Disk, path: string): SmallFile<FollowState> {
  return new SmallFile(disk, path, FOLLOW_FORMAT);
}
