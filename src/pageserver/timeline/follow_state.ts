/** Remembers which foreign primary, or which archive of one, a timeline follows. */
import {
  type ArchiveLocation,
  describeArchive,
  formatArchiveLocation,
  parseArchiveLocation,
} from "../../common/archive_location.ts";
import type { Disk } from "../../common/disk.ts";
import { redactPasswords } from "../../common/redact.ts";
import { SmallFile, type SmallFormat } from "../../common/small_file.ts";

/** Where WAL comes from. It may have a password or a passphrase in it. */
export type FollowSource =
  | { readonly kind: "primary"; readonly connInfo: string }
  | { readonly kind: "archive"; readonly location: ArchiveLocation };

export interface FollowState {
  readonly source: FollowSource;
  /** The slot that keeps WAL there. Null when there is none any more. */
  readonly slot: string | null;
  /** The timeline, PostgreSQL's, that the primary's WAL is of. */
  readonly tli: number;
  /** The slot is given up when it holds back more WAL than this, in bytes. */
  readonly maxSlotBytes: number;
  /** Whether somebody has stopped it. */
  readonly isStopped: boolean;
}

/** For messages: without secrets. */
export function describeSource(source: FollowSource): string {
  return source.kind === "primary"
    ? redactPasswords(source.connInfo)
    : `archive ${describeArchive(source.location)}`;
}

/** docs/formats/small_files.md shows its lines. */
export const FOLLOW_FORMAT: SmallFormat<FollowState> = {
  title: "zenith follow",
  encode: ({ source, slot, tli, maxSlotBytes, isStopped }) => [
    source.kind === "primary"
      ? `source ${source.connInfo}`
      : `archive ${formatArchiveLocation(source.location)}`,
    `slot ${slot ?? "none"}`,
    `timeline ${tli}`,
    `limit ${maxSlotBytes}`,
    ...(isStopped ? ["stopped"] : []),
  ],
  decode: ([first = "", second = "", third = "", fourth = "", fifth]) => {
    const source = decodeSource(first);
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

function decodeSource(line: string): FollowSource | undefined {
  const [, kind, text] = /^(source|archive) (\S.*)$/.exec(line) ?? [];
  if (text === undefined) return undefined;
  return kind === "source"
    ? { kind: "primary", connInfo: text }
    : { kind: "archive", location: parseArchiveLocation(text) };
}

/** The file in a timeline's directory. */
export function followFile(disk: Disk, path: string): SmallFile<FollowState> {
  return new SmallFile(disk, path, FOLLOW_FORMAT);
}
