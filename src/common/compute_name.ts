/**
 * Names of computes: a branch's own goes by the branch, `main`; one that looks at a moment of its
 * past by that too, `main@0/16B5A50`.
 */
import { branchFileName, type BranchName, branchOfFileName } from "./id.ts";
import { formatLsn, type Lsn, parseLsn } from "./lsn.ts";

export interface ComputeName {
  readonly branch: BranchName;
  /** What it looks at; null for the branch's own, which goes on where the branch ends. */
  readonly moment: Lsn | null;
}

export function formatComputeName({ branch, moment }: ComputeName): string {
  return moment === null ? branch : `${branch}@${formatLsn(moment)}`;
}

/** The name of its directory. No branch name has an `@`. */
export function computeFileName({ branch, moment }: ComputeName): string {
  const file = branchFileName(branch);
  return moment === null ? file : `${file}@${formatLsn(moment).replace("/", "-")}`;
}

/**
 * The compute that a directory is named after; null for one that {@link computeFileName} never
 * returns.
 */
export function computeOfFileName(file: string): ComputeName | null {
  const [branchFile = "", lsnFile] = file.split("@", 2);
  const branch = branchOfFileName(branchFile);
  if (branch === null) return null;
  const name = { branch, moment: lsnFile === undefined ? null : readLsn(lsnFile) };
  return computeFileName(name) === file ? name : null;
}

function readLsn(file: string): Lsn | null {
  return /^[0-9A-F]{1,8}-[0-9A-F]{1,8}$/.test(file) ? parseLsn(file.replace("-", "/")) : null;
}
