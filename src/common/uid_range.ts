/** A range of operating system users in a configuration file. */

/** Users by their numbers; both ends included. */
export interface UidRange {
  readonly first: number;
  readonly last: number;
}

/** The largest number that chown(2) does not take for "unchanged". */
export const UID_MAX = 0xffff_fffe;

/** Parses `200000-209999`. Undefined when it is no such range. Root is in none. */
export function parseUidRange(text: string): UidRange | undefined {
  const match = /^(\d{1,10})-(\d{1,10})$/.exec(text);
  if (match === null) return undefined;
  const [first, last] = [Number(match[1]), Number(match[2])];
  return first > 0 && first <= last && last <= UID_MAX ? { first, last } : undefined;
}
