/** The names that users of other tools try first, and what they are called here. */

/** From the words that somebody types to those of the command that is meant. */
export const OTHER_NAMES: readonly (readonly [string, string])[] = [
  ["branches", "branch"],
  ["tenants", "tenant"],
  ["project", "tenant"],
  ["projects", "tenant"],
  ["connection-string", "uri"],
  ["cs", "uri"],
  ["checkout", "branch default"],
  ["diff", "branch diff"],
  ["branch ls", "branch list"],
  ["branch rm", "branch delete"],
  ["branch remove", "branch delete"],
  ["branch schema-diff", "branch diff --schema"],
  ["branch sd", "branch diff --schema"],
  ["branch set-default", "branch default"],
  ["branch set-expiration", "branch set-expiry"],
  ["branch add-compute", "pg start"],
  ["pg ls", "pg list"],
  ["tenant ls", "tenant list"],
  ["tenant rm", "tenant delete"],
];

/** Words for things that have no command here, and what there is instead. */
const INSTEAD: Readonly<Record<string, string>> = {
  database: 'databases are made with SQL: zenith sql -c "create database shop"',
  role: 'roles are made with SQL: zenith sql -c "create role alice login"',
  snapshot: 'a branch is one: zenith branch before main, or "zenith branch oops main@-5m" afterwards',
  operation: 'every command waits until it is done; "zenith logs" shows what the servers did',
  auth: "there is nobody to sign in to: a command takes the nearest .zenith upward",
  link: 'a command takes the nearest .zenith upward; "zenith init" makes one',
};

/** Other words for the same things. */
const SAME: Readonly<Record<string, string>> = { db: "database", login: "auth", "set-context": "link" };

/**
 * Replaces the first one or two words of a command line, if they are another name of a command or
 * a group.
 */
export function translate(argv: readonly string[]): string[] {
  let words = [...argv];
  // The first word first: `branches ls` is `branch ls`, and that is `branch list`.
  for (const count of [1, 2]) {
    const typed = words.slice(0, count).join(" ");
    const meant = words.length < count ? undefined : OTHER_NAMES.find(([name]) => name === typed)?.[1];
    if (meant !== undefined) words = [...meant.split(" "), ...words.slice(count)];
  }
  return words;
}

/** What to do instead of a command that there is not; undefined when nothing is known. */
export function instead(word: string): string | undefined {
  return INSTEAD[SAME[word] ?? word.replace(/s$/, "")];
}
