/** Numbers and times as people read them. */

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

/** `8 KiB`, `1.4 GiB`. */
export function formatBytes(bytes: number): string {
  const power = Math.min(Math.floor(Math.log2(Math.max(bytes, 1)) / 10), UNITS.length - 1);
  const value = bytes / 1024 ** power;
  return `${power > 0 && value < 10 ? value.toFixed(1) : Math.round(value)} ${UNITS[power]}`;
}

/** `7`, `12,345`, `0.4`. */
export function formatCount(value: number): string {
  return value > 0 && value < 10 && !Number.isInteger(value)
    ? value.toFixed(1)
    : Math.round(value).toLocaleString("en");
}

/** An LSN as a number of bytes. */
export function lsnToNumber(lsn: string): number {
  const [high = "0", low = "0"] = lsn.split("/");
  return Number.parseInt(high, 16) * 2 ** 32 + Number.parseInt(low, 16);
}

const SPANS = [["d", 86_400_000], ["h", 3_600_000], ["min", 60_000], ["s", 1_000]] as const;

/** `3 d`, `12 min`: how long ago, or how long to go, by its largest unit. */
export function formatSpan(ms: number): string {
  const [unit, size] = SPANS.find(([, size]) => ms >= size) ?? SPANS[SPANS.length - 1]!;
  return `${Math.floor(ms / size)} ${unit}`;
}

/** `37 ms`, `1.5 s`, `12 min`: how long something took. */
export function formatTook(ms: number): string {
  if (ms < 1_000) return `${Math.max(0, Math.round(ms))} ms`;
  return ms < 60_000 ? `${(ms / 1_000).toFixed(1)} s` : formatSpan(ms);
}

/** `2 min ago`, `in 3 d`, `now`. */
export function formatAgo(time: string, now = Date.now()): string {
  const ms = now - Date.parse(time);
  if (Math.abs(ms) < 1_000) return "now";
  return ms > 0 ? `${formatSpan(ms)} ago` : `in ${formatSpan(-ms)}`;
}

/** `07` */
export const two = (value: number): string => String(value).padStart(2, "0");

/** `2026-11-30 14:03:27`, by the local clock, with milliseconds unless they are zero or not wanted. */
export function formatTime(ms: number, withMillis = false): string {
  const at = new Date(ms);
  const date = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
  const millis = withMillis ? `.${String(at.getMilliseconds()).padStart(3, "0")}` : "";
  return `${date} ${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}${millis}`;
}

/** A word of a shell's command. */
export function quoteWord(text: string): string {
  return /^[\w@:.,/+-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}

/** A time as the server reads it: RFC 3339, to the millisecond. */
export function toRfc3339(ms: number): string {
  return new Date(ms).toISOString();
}

/** One field of a CSV file (RFC 4180); NULL is an empty one without quotes, as COPY has it. */
function csvField(value: string | null): string {
  if (value === null) return "";
  return value === "" || /[",\r\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value;
}

/** pg_type's OIDs: int8, int2, int4, oid, float4, float8, numeric; bool; json, jsonb. */
export const NUMBER_TYPES: ReadonlySet<number> = new Set([20, 21, 23, 26, 700, 701, 1700]);
const BOOL = 16;
export const JSON_TYPES: ReadonlySet<number> = new Set([114, 3802]);

/**
 * An array of objects. Numbers keep all of their digits, which a reader may have no room for; what
 * JSON can't say, such as NaN, is a string. A column whose name is there already gets a number.
 */
export function toJson(
  fields: readonly { readonly name: string; readonly dataTypeID: number }[],
  rows: readonly (readonly (string | null)[])[],
): string {
  const names: string[] = [];
  for (const { name } of fields) {
    let unique = name;
    for (let i = 2; names.includes(unique); i++) unique = `${name}_${i}`;
    names.push(unique);
  }
  const value = (text: string | null, type: number): string => {
    if (text === null) return "null";
    if (type === BOOL) return text === "t" ? "true" : "false";
    if (JSON_TYPES.has(type)) return text;
    return NUMBER_TYPES.has(type) && /^-?\d+(\.\d+)?(e[+-]?\d+)?$/.test(text) ? text : JSON.stringify(text);
  };
  const lines = rows.map((row) =>
    `  {${
      row.map((text, i) => `${JSON.stringify(names[i])}: ${value(text, fields[i]!.dataTypeID)}`).join(", ")
    }}`
  );
  return lines.length === 0 ? "[]\n" : `[\n${lines.join(",\n")}\n]\n`;
}

export function toCsv(names: readonly string[], rows: readonly (readonly (string | null)[])[]): string {
  return [names, ...rows].map((row) => `${row.map(csvField).join(",")}\r\n`).join("");
}
