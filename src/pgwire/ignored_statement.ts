/**
 * Finds the answer to a statement that clients send automatically on connecting and that has no
 * effect on our servers.
 *
 * @returns the tag of its CommandComplete, e.g. `SET`; undefined for any other statement
 */
export function ignoredStatementTag(sql: string): string | undefined {
  const match = /^\s*(set|select(?= 1\b)|begin|commit|rollback)\b/i.exec(sql);
  return match?.[1]?.toUpperCase();
}
