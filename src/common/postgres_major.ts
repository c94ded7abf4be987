/** The majors of PostgreSQL that Zenith runs. */
import { ZenithError } from "./errors.ts";

/**
 * The PostgreSQL majors that Zenith runs, oldest first. A cluster and its branches keep one for
 * life.
 */
export const POSTGRES_MAJORS: readonly number[] = [14, 15, 16, 17, 18];

/** The majors in words, for messages: `14, 15, 16, 17 or 18`. */
export function postgresMajorsInWords(): string {
  return `${POSTGRES_MAJORS.slice(0, -1).join(", ")} or ${POSTGRES_MAJORS.at(-1)}`;
}

/**
 * Parses a major that a user has written.
 *
 * @param what where it was written, for the message: `--pg-version`
 * @throws {ZenithError} `invalid_argument` when Zenith does not run that major
 */
export function parsePostgresMajor(text: string, what: string): number {
  const major = /^\d{1,3}$/.test(text) ? Number(text) : 0;
  if (POSTGRES_MAJORS.includes(major)) return major;
  throw new ZenithError("invalid_argument", `${what} is "${text}": expected ${postgresMajorsInWords()}`);
}
