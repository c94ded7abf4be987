/**
 * Strips surrounding blanks and final semicolons from a command. It uses a loop because
 * `/\s*;\s*$/` starts again at every blank: a megabyte of blanks would block the server for
 * minutes.
 */
export function bareCommand(sql: string): string {
  let end = sql.length;
  while (end > 0 && isBlankOrSemicolon(sql[end - 1])) end--;
  return sql.slice(0, end).trimStart();
}

function isBlankOrSemicolon(character: string): boolean {
  return character === ";" || character.trim() === "";
}
