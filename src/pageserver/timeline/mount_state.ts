/** Remembers which backup a timeline began with, and which of its files are read when needed. */
import {
  type ArchiveLocation,
  formatArchiveLocation,
  parseArchiveLocation,
} from "../../common/archive_location.ts";
import type { Disk } from "../../common/disk.ts";
import { SmallFile, type SmallFormat } from "../../common/small_file.ts";

/** A file of a relation in a backup. */
export interface MountedFile {
  /** Relative to the data directory. */
  readonly name: string;
  /** Not 0. */
  readonly size: number;
  /** SHA-1, hexadecimal. */
  readonly checksum: string;
}

export interface MountState {
  /** A pgBackRest repository. */
  readonly location: ArchiveLocation;
  /** The label of the backup in it. */
  readonly label: string;
  readonly files: readonly MountedFile[];
}

/** docs/formats/small_files.md shows its lines. */
export const MOUNT_FORMAT: SmallFormat<MountState> = {
  title: "zenith mount",
  encode: ({ location, label, files }) => [
    `archive ${formatArchiveLocation(location)}`,
    `backup ${label}`,
    ...files.map(({ name, size, checksum }) => `file ${checksum} ${size} ${name}`),
  ],
  decode: ([first = "", second = "", ...others]) => {
    const location = /^archive (\S.*)$/.exec(first)?.[1];
    const label = /^backup ([\w-]+)$/.exec(second)?.[1];
    if (location === undefined || label === undefined) throw new Error("this names no backup");
    return { location: parseArchiveLocation(location), label, files: others.map(decodeMounted) };
  },
};

function decodeMounted(line: string): MountedFile {
  const [, checksum, size, name] = /^file ([0-9a-f]{40}) ([1-9]\d{0,14}) (\S+)$/.exec(line) ?? [];
  if (checksum === undefined || name === undefined) throw new Error(`this names no file: ${line}`);
  return { name, size: Number(size), checksum };
}

/** The file in a timeline's directory. */
export function mountFile(disk: Disk, path: string): SmallFile<MountState> {
  return new SmallFile(disk, path, MOUNT_FORMAT);
}
