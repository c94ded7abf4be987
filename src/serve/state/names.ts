/** Makes ids that people can tell apart: `br-quiet-river-4f1k2m9x`, `ep-quiet-river-4f1k2m9x`. */
import { randomInt } from "node:crypto";

const FIRST =
  "amber bold brisk calm clear cool crisp damp dark dawn deep dry early fair fast fine fresh gentle grand gray green icy keen late light little long lucky mellow mild neat noble odd old pale plain proud quick quiet rapid raw red rich round shy silent slow small soft solid spare steep still summer super swift tight tiny vast warm wide wild wise young"
    .split(" ");
const SECOND =
  "bar bay bear bird boat bread brook bush cake cave cell cherry cliff cloud coast dew dust feather field fire flower fog forest frog frost glade grass hall haze heart hill king lab lake leaf math meadow mode moon mouse mud night pine poet pond queen rain recipe rice river salad scene sea shape sky smoke snow sound star sun surf tooth tree union"
    .split(" ");
const LETTERS = "0123456789abcdefghijklmnopqrstuvwxyz";
const SUFFIX_LENGTH = 8;

/**
 * `quiet-river-4f1k2m9x`: a label of a host name can begin with it, and nobody has to guess one.
 */
export function makeWords(): string {
  const pick = (from: readonly string[] | string): string => from[randomInt(from.length)]!;
  const suffix = Array.from({ length: SUFFIX_LENGTH }, () => pick(LETTERS)).join("");
  return `${pick(FIRST)}-${pick(SECOND)}-${suffix}`;
}

/** What clients of Neon's take for a branch's id. */
export const BRANCH_ID = /^br-[a-z0-9]+-[a-z0-9]+-[a-z0-9]+$/;
