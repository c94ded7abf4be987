/**
 * Names of computes. A branch's own compute has the branch's name, `main`. A compute that shows a
 * moment of the branch's past adds that moment, `main@0/16B5A50`, and a replica its number,
 * `main@replica1`.
 */
import { branchFileName, type BranchName, branchOfFileName } from "./id.ts";
import { formatLsn, type Lsn, parseLsn } from "./lsn.ts";

export interface ComputeName {
  readonly branch: BranchName;
  /** The LSN that it shows. Null for a compute that goes on with the branch. */
  readonly moment: Lsn | null;
  /** Its number among the replicas that follow the branch. Null for a compute that is none. */
  readonly replica: number | null;
}

/** The name of the branch's own compute, which writes. */
export function ownName(branch: BranchName): ComputeName {
  return { branch, moment: null, replica: null };
}

/** Whether the compute is the branch's own, and not one beside it. */
export function isOwn({ moment, replica }: ComputeName): boolean {
  return moment === null && replica === null;
}

export function formatComputeName({ branch, moment, replica }: ComputeName): string {
  if (replica !== null) return `${branch}@${formatReplica(replica)}`;
  return moment === null ? branch : `${branch}@${formatLsn(moment)}`;
}

/** The name of the compute's directory. No branch name contains an `@`. */
export function computeFileName({ branch, moment, replica }: ComputeName): string {
  const file = branchFileName(branch);
  if (replica !== null) return `${file}@${formatReplica(replica)}`;
  return moment === null ? file : `${file}@${formatLsn(moment).replace("/", "-")}`;
}

/**
 * Returns the compute that a directory is named after, or null for a name that
 * {@link computeFileName} never returns.
 */
export function computeOfFileName(file: string): ComputeName | null {
  const [branchFile = "", beside] = file.split("@", 2);
  const branch = branchOfFileName(branchFile);
  if (branch === null) return null;
  const replica = beside === undefined ? null : parseReplica(beside);
  const moment = beside === undefined || replica !== null ? null : readLsn(beside);
  const name = { branch, moment, replica };
  return computeFileName(name) === file ? name : null;
}

function readLsn(file: string): Lsn | null {
  return /^[0-9A-F]{1,8}-[0-9A-F]{1,8}$/.test(file) ? parseLsn(file.replace("-", "/")) : null;
}

function formatReplica(number: number): string {
  return `replica${number}`;
}

/** Returns the number of `replica1`; null for any other text. */
export function parseReplica(text: string): number | null {
  const match = /^replica([1-9]\d{0,3})$/.exec(text);
  return match === null ? null : Number(match[1]);
}
