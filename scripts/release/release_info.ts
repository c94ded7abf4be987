/** Which release this is: packaging/debian/changelog says so, as deb-changelog(5) has it. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { VERSION } from "../../src/common/version.ts";

export const ROOT = join(import.meta.dirname!, "..", "..");

export interface ReleaseInfo {
  readonly version: string;
  /** Every file of a package has this time: a build on another day makes the same bytes. */
  readonly time: Date;
}

/** The newest entry; `$SOURCE_DATE_EPOCH` goes before its time. @throws {Error} when it is not of this version */
export function releaseInfo(): ReleaseInfo {
  const text = readFileSync(join(ROOT, "packaging", "debian", "changelog"), "utf8");
  const version = /^zenith \(([^)]+)\)/.exec(text)?.[1];
  const date = /^ -- .*> {2}(.+)$/m.exec(text)?.[1];
  if (version !== VERSION || date === undefined) {
    throw new Error(`packaging/debian/changelog begins with ${version}: expected an entry for ${VERSION}`);
  }
  const epoch = process.env["SOURCE_DATE_EPOCH"];
  return { version, time: epoch === undefined ? new Date(date) : new Date(Number(epoch) * 1000) };
}
