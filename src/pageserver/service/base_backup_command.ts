/**
 * Parses BASE_BACKUP, as pg_basebackup of every major sends it. Source: repl_gram.y and
 * parse_basebackup_options in src/backend/backup/basebackup.c.
 */
import { ZenithError } from "../../common/errors.ts";

/** What a client wants of a base backup. */
export interface BaseBackupOptions {
  readonly label: string;
  /** Whether the WAL that the backup needs comes with it: `-X fetch`. */
  readonly wal: boolean;
  /** Whether the size is estimated, and progress told. */
  readonly progress: boolean;
  /** In KiB per second; null for no limit. */
  readonly maxRate: number | null;
  readonly manifest: boolean;
  /** The algorithm of the manifest's checksums; null for none. */
  readonly checksums: string | null;
}

const RATE_MIN = 32;
const RATE_MAX = 1 << 20;
const ALGORITHMS = new Set(["NONE", "CRC32C", "SHA224", "SHA256", "SHA384", "SHA512"]);

/** An option's name, and its value if it has one. */
type Option = readonly [name: string, value: string | null];

/**
 * @param text the whole command, with options in parentheses as from PostgreSQL 15 on, or without
 * @throws {ZenithError} `invalid_argument`; `not_implemented` for what only a PostgreSQL can do
 */
export function parseBaseBackup(text: string): BaseBackupOptions {
  const rest = text.replace(/^\s*BASE_BACKUP\b/i, "").trim();
  const options = rest.startsWith("(") ? listed(rest) : words(rest);
  let [label, wal, progress, manifest] = ["base backup", false, false, false];
  let maxRate: number | null = null;
  let algorithm: string | null = null;
  for (const [name, value] of options) {
    switch (name) {
      case "LABEL":
        label = value ?? label;
        break;
      case "WAL":
        wal = isTrue(name, value);
        break;
      case "PROGRESS":
        progress = isTrue(name, value);
        break;
      case "MAX_RATE":
        maxRate = rate(value);
        break;
      case "MANIFEST":
        if (value === "force-encode") throw impossible("MANIFEST 'force-encode'");
        manifest = isTrue(name, value);
        break;
      case "MANIFEST_CHECKSUMS":
        algorithm = value?.toUpperCase() ?? "";
        if (!ALGORITHMS.has(algorithm)) throw invalid(`"${value}" is no checksum algorithm`);
        break;
      // The checkpoint is always a fast one, and pages are checked whenever they are read.
      case "FAST":
      case "CHECKPOINT":
      case "NOWAIT":
      case "WAIT":
      case "NOVERIFY_CHECKSUMS":
      case "VERIFY_CHECKSUMS":
      // Tablespaces are directories of the backup, so there is no map.
      case "TABLESPACE_MAP":
        break;
      case "TARGET":
        if (value !== "client") throw impossible(`the target "${value}"`);
        break;
      case "COMPRESSION":
      case "COMPRESSION_DETAIL":
        if (value !== "none") {
          throw impossible("compression at the server", "pg_basebackup --compress=client-…");
        }
        break;
      case "INCREMENTAL":
        throw impossible("an incremental backup");
      default:
        throw invalid(`BASE_BACKUP has no option ${name}`);
    }
  }
  if (!manifest && algorithm !== null) throw invalid("MANIFEST_CHECKSUMS needs MANIFEST");
  const checksums = algorithm === "NONE" ? null : algorithm ?? "CRC32C";
  return { label, wal, progress, maxRate, manifest, checksums };
}

const WORD = /^([A-Z_]+)\b/i;
/** A string, in which a quote is doubled, or a number. */
const VALUE = /^(?:'((?:[^']|'')*)'|(\w+))/;
/** Of the options without parentheses, those that have a value. */
const WITH_VALUE = new Set(["LABEL", "MAX_RATE", "MANIFEST", "MANIFEST_CHECKSUMS"]);

/** `(LABEL 'x', WAL true, CHECKPOINT 'fast')` */
function listed(text: string): Option[] {
  const options: Option[] = [];
  let rest = text.slice(1).trimStart();
  for (;;) {
    const [name, after] = take(rest, WORD);
    let value: string | null = null;
    rest = after;
    if (!/^[,)]/.test(rest)) [value, rest] = takeValue(rest);
    options.push([name.toUpperCase(), value]);
    if (rest === ")") return options;
    if (!rest.startsWith(",")) throw unreadable(rest);
    rest = rest.slice(1).trimStart();
  }
}

/** `LABEL 'x' FAST WAL MAX_RATE 32` */
function words(text: string): Option[] {
  const options: Option[] = [];
  for (let rest = text; rest !== "";) {
    const [word, after] = take(rest, WORD);
    const name = word.toUpperCase();
    let value: string | null = null;
    rest = after;
    if (WITH_VALUE.has(name)) [value, rest] = takeValue(rest);
    options.push([name, value]);
  }
  return options;
}

function take(text: string, pattern: RegExp): [found: string, rest: string] {
  const match = pattern.exec(text);
  if (match === null) throw unreadable(text);
  return [match[1]!, text.slice(match[0].length).trimStart()];
}

function takeValue(text: string): [value: string, rest: string] {
  const match = VALUE.exec(text);
  if (match === null) throw unreadable(text);
  const value = match[1]?.replaceAll("''", "'") ?? match[2]!;
  return [value, text.slice(match[0].length).trimStart()];
}

function isTrue(name: string, value: string | null): boolean {
  if (value === null || /^(?:true|on|yes|1)$/i.test(value)) return true;
  if (/^(?:false|off|no|0)$/i.test(value)) return false;
  throw invalid(`${name} is "${value}": expected a boolean`);
}

function rate(value: string | null): number {
  const found = Number(value);
  if (Number.isInteger(found) && found >= RATE_MIN && found <= RATE_MAX) return found;
  throw invalid(`MAX_RATE is "${value}": expected ${RATE_MIN} to ${RATE_MAX} KiB per second`);
}

function unreadable(text: string): ZenithError {
  return invalid(`could not read the options of BASE_BACKUP at "${text.slice(0, 60)}"`);
}

function invalid(message: string): ZenithError {
  return new ZenithError("invalid_argument", message);
}

function impossible(what: string, hint?: string): ZenithError {
  const message = `the page server can't make ${what}: only the branch's Postgres could`;
  return new ZenithError("not_implemented", message, hint === undefined ? {} : { hint });
}
