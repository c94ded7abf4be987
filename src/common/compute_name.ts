/**
 * Names of computes. A branch's own compute has the branch's name, `main`. A compute that shows a
 * moment of the branch's past adds that moment, `main@0/16B5A50`.
 */
import { branchFileName, type BranchName, branchOfFileName } from "./id.ts";
import { formatLsn, type Lsn, parseLsn } from "./lsn.ts";

export interface ComputeName {
  readonly branch: BranchName;
  /**
   * The LSN that it shows. Null for the branch's own compute, which continues from the branch's
   * end.
   */
  readonly moment: Lsn | null;
}

export function formatComputeName({ branch, moment }: ComputeName): string {
  return moment === null ? branch : `${branch}@${formatLsn(moment)}`;
}

/** The name of the compute's directory. No branch name contains an `@`. */
export function computeFileName({ branch, moment }: ComputeName): string {
  const file = branchFileName(branch);
  return moment === null ? file : `${file}@${formatLsn(moment).replace("/", "-")}`;
}

/**
 * Returns the compute that a directory is named after, or null for a name that
 * {@link computeFileName} never returns.
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
