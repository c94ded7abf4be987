/** Lines of logs as people read them: Postgres's own as they are, those in JSON as `zenith logs` shows them. */

export interface ShownLine {
  readonly text: string;
  /** Undefined for what nobody has to look at. */
  readonly level: "problem" | "warning" | undefined;
}

export function formatLogLine(line: string): ShownLine {
  const json = line.startsWith("{") ? parse(line) : undefined;
  if (json === undefined) {
    const severity = /\b(PANIC|FATAL|ERROR|WARNING): /.exec(line)?.[1];
    return {
      text: line,
      level: severity === undefined ? undefined : severity === "WARNING" ? "warning" : "problem",
    };
  }
  const { level, time, msg, name: _name, pid: _pid, ...fields } = json;
  const rest = Object.entries(fields).map(([key, value]) => `${key}=${textOf(value)}`);
  const head = level === "info" ? "" : `${String(level).toUpperCase()}: `;
  return {
    text: [time, `${head}${msg}`, ...rest].join("  "),
    level: level === "error" ? "problem" : level === "warn" ? "warning" : undefined,
  };
}

function parse(line: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === "object" && value !== null && "msg" in value
      ? value as Record<string, unknown>
      : undefined;
  } catch {
    return undefined;
  }
}

/** Of an error, its message alone. */
function textOf(value: unknown): string {
  if (typeof value === "object" && value !== null && "message" in value) return JSON.stringify(value.message);
  return typeof value === "string" ? value : JSON.stringify(value);
}
