/**
 * Names a WAL segment of a basebackup whose beginning is left out
 * (docs/formats/relation_manifest.md).
 */

const CUT_SEGMENT = /^([0-9A-F]{24})\.from_([0-9A-F]{8})$/;

/** A segment whose WAL begins in its middle. */
export interface CutSegment {
  /** The name of the whole segment. */
  readonly name: string;
  /** The offset of the first byte of WAL. The file begins with the page that has it. */
  readonly begin: number;
}

export function cutSegmentName(name: string, begin: number): string {
  return `${name}.from_${begin.toString(16).toUpperCase().padStart(8, "0")}`;
}

/** @returns undefined when the file's name is not of that form */
export function parseCutSegmentName(file: string): CutSegment | undefined {
  const match = CUT_SEGMENT.exec(file);
  return match === null ? undefined : { name: match[1]!, begin: Number.parseInt(match[2]!, 16) };
}
