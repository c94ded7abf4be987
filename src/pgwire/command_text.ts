/**
 * A command without the blanks around it and the semicolons that end it. A loop, not `/\s*;\s*$/`: that expression starts anew at
 * every blank, and a client's megabyte of blanks would stop the server for minutes.
 */
export function bareCommand(sql: string): string {
  let end = sql.length;
  while (end > 0 && isBlankOrSemicolon(sql[end - 1]!)) end--;
  return sql.slice(0, end).trimStart();
}

function isBlankOrSemicolon(character: string): boolean {
  return character === ";" || character.trim() === "";
}
