import { ZenithError } from "./errors.ts";

/** The PostgreSQL majors that Zenith runs, oldest first. A cluster has one for life, and so do its branches. */
export const POSTGRES_MAJORS: readonly number[] = [14, 15, 16, 17, 18];

/** The majors in words, for messages: `14, 15, 16, 17 or 18`. */
export function postgresMajorsInWords(): string {
  return `${POSTGRES_MAJORS.slice(0, -1).join(", ")} or ${POSTGRES_MAJORS.at(-1)}`;
}

/**
 * Reads a major that somebody has written.
 *
 * @param what what it was written for, for the message: `--pg-version`
 * @throws {ZenithError} `invalid_argument` when it is none that Zenith runs
 */
export function parsePostgresMajor(text: string, what: string): number {
  const major = /^\d{1,3}$/.test(text) ? Number(text) : 0;
  if (POSTGRES_MAJORS.includes(major)) return major;
  throw new ZenithError("invalid_argument", `${what} is "${text}": expected ${postgresMajorsInWords()}`);
}
