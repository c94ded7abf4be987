/**
 * What the answer to a statement is that clients send on their own when they connect, and that changes nothing at a server of commands.
 *
 * @returns the tag of its CommandComplete, e.g. `SET`; undefined for any other statement
 */
export function ignoredStatementTag(sql: string): string | undefined {
  const match = /^\s*(set|select(?= 1\b)|begin|commit|rollback)\b/i.exec(sql);
  return match?.[1]?.toUpperCase();
}
