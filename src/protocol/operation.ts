/**
 * Describes a server's operations: the name, arguments and answer of each, and who may call it.
 * Every adapter is built from these descriptions: the commands on the wire, the clients that send
 * them, later HTTP.
 */
import { type GenericSchema, type InferInput, type InferOutput, safeParse } from "valibot";
import { ZenithError } from "../common/errors.ts";
import { redactPasswords } from "../common/redact.ts";
import type { HostPort } from "../common/host_port.ts";
import type { TenantId, TimelineId } from "../common/id.ts";

/**
 * Who may call an operation. src/protocol/guard.ts says by which tokens.
 * - `admin`: the server's operator.
 * - `tenant`: anyone who may change that tenant.
 * - `read`: anyone who may read it.
 * - `compute`: the compute of one timeline.
 * - `send`: whoever has WAL of the timeline for the page server: a safekeeper, or the compute.
 * - `find`: anyone who may do something with the tenant, or with one of its timelines.
 */
export type Access = "admin" | "tenant" | "read" | "compute" | "send" | "find";

/** What a command names. A token may restrict all of it. */
export interface Named {
  readonly tenant?: TenantId;
  readonly timelines?: readonly TimelineId[];
  /** The addresses that the command makes the server fetch WAL from. */
  readonly addresses?: readonly HostPort[];
  /** The addresses that the command makes a timeline's safekeepers. */
  readonly safekeepers?: readonly HostPort[];
  /**
   * Whether all that the command shows or changes comes from masks. False when that is not known.
   */
  readonly isMasked?: boolean;
}

/**
 * How an argument is written in a command: as a value, as everything that follows, as `name=value`,
 * or as `name` alone.
 */
type ArgForm = "word" | "rest" | "named" | "flag";

/**
 * An argument. Its name is its key in the operation's `args`, and the order of the keys is the
 * order on the wire.
 */
export interface Arg<T, Optional extends boolean = boolean> {
  readonly form: ArgForm;
  readonly optional: Optional;
  /** The value's name in the usage text. */
  readonly placeholder: string;
  /** Parses the value. Throws a {@link ZenithError}, or reports an issue. */
  readonly schema: GenericSchema<string, T>;
  format(value: T): string;
  /** Whether the value may be secret, so that no log may have it. */
  readonly isSecret?: boolean;
  /** What the value names that a token may restrict. */
  names?(value: T): Named;
}

export type Args = Readonly<Record<string, Arg<unknown>>>;

type ValueOf<A> = A extends Arg<infer T> ? T : never;

/** The values of an operation's arguments, as its callers pass them and its handler gets them. */
export type ArgValues<A extends Args> =
  & { readonly [K in keyof A as A[K] extends Arg<unknown, false> ? K : never]: ValueOf<A[K]> }
  & { readonly [K in keyof A as A[K] extends Arg<unknown, false> ? never : K]?: ValueOf<A[K]> | undefined };

/**
 * One row with one JSON value. The column type `text` is for clients that would otherwise decode
 * `json` on their own.
 */
export interface JsonReply<S extends GenericSchema> {
  readonly kind: "json";
  readonly schema: S;
  readonly columnType: "json" | "text";
}

/** One row of numbers. Each column is named by its key. */
export interface FiguresReply<S extends GenericSchema> {
  readonly kind: "figures";
  readonly schema: S;
  readonly columns: readonly string[];
}

/** Only a command tag, or a stream whose messages docs/formats describes. */
export interface BareReply {
  readonly kind: "tag" | "copy_out" | "copy_both";
}

export type Reply = JsonReply<GenericSchema> | FiguresReply<GenericSchema> | BareReply;

export interface Operation<A extends Args = Args, R extends Reply = Reply> {
  readonly name: string;
  readonly access: Access;
  readonly args: A;
  readonly reply: R;
  /** Whether it changes something that lasts, so that the audit log has to have it. */
  readonly changes: boolean;
  /**
   * Whether the stream that it opens names the tenant and the timeline, not its arguments. Its
   * handler has to check them.
   */
  readonly namesInStream: boolean;
}

/**
 * What a handler returns: the answer in its wire form. Handlers that answer with a stream or a tag
 * return nothing.
 */
export type Answer<R extends Reply> = R extends { readonly schema: infer S extends GenericSchema }
  ? InferInput<S>
  : void;

/** What a caller gets: the answer, checked and parsed. */
export type Result<R extends Reply> = R extends { readonly schema: infer S extends GenericSchema }
  ? InferOutput<S>
  : void;

/**
 * Returns the operation's syntax as a command: `lease_lsn <tenant> <timeline> <lsn> [duration]`.
 */
export function usage(operation: Operation): string {
  const words = Object.entries(operation.args).map(([name, arg]) => {
    const text = arg.form === "flag"
      ? name
      : arg.form === "named"
      ? `${name}=<${arg.placeholder}>`
      : `<${arg.placeholder}>`;
    return arg.optional ? `[${text}]` : text;
  });
  return [operation.name, ...words].join(" ");
}

/**
 * Parses the arguments of a command.
 *
 * @param text what follows the command's name
 * @throws {ZenithError} `invalid_argument`, naming what is wrong; what a schema throws
 */
export function parseArgs<A extends Args>(operation: Operation<A>, text: string): ArgValues<A> {
  const values: Record<string, unknown> = {};
  const specs = Object.entries(operation.args);
  const words = splitWords(text);
  const hasRest = specs.some(([, { form }]) => form === "rest");
  const fewest = specs.filter(([, { optional }]) => !optional).length;
  if (words.length < fewest || !hasRest && words.length > specs.length) {
    const count = `${words.length} argument${words.length === 1 ? "" : "s"}`;
    throw invalid(`${operation.name} has ${count}: expected ${usage(operation)}`);
  }
  let next = 0;
  for (const [name, arg] of specs) {
    const word = words[next];
    if (arg.form === "flag" || arg.form === "named" || word === undefined) continue;
    if (arg.optional && isForLater(specs, word.text)) continue;
    values[name] = read(name, arg, arg.form === "rest" ? text.slice(word.at).trimEnd() : word.text);
    next = arg.form === "rest" ? words.length : next + 1;
  }
  for (const { text: word } of words.slice(next)) {
    const found = specs.find(([name, { form }]) => isWrittenAs(name, form, word));
    if (found === undefined) throw invalid(`${operation.name}: "${word}" is not ${expectedLater(specs)}`);
    const [name, arg] = found;
    values[name] = read(name, arg, arg.form === "named" ? word.slice(name.length + 1) : word);
  }
  return values as ArgValues<A>;
}

/** What a command with these arguments names. */
export function namedBy<A extends Args>(operation: Operation<A>, values: ArgValues<A>): Named {
  const named = Object.entries(operation.args).flatMap(([name, arg]) => {
    const value = (values as Readonly<Record<string, unknown>>)[name];
    return value === undefined ? [] : arg.names?.(value) ?? [];
  });
  const tenant = named.find(({ tenant }) => tenant !== undefined)?.tenant;
  return {
    ...(tenant === undefined ? {} : { tenant }),
    timelines: named.flatMap(({ timelines = [] }) => timelines),
    addresses: named.flatMap(({ addresses = [] }) => addresses),
    safekeepers: named.flatMap(({ safekeepers = [] }) => safekeepers),
  };
}

/**
 * The arguments by name, as they are written in a command. Without those that are secret, and those
 * that {@link namedBy} returns. Passwords in connection strings are masked.
 */
export function plainArgs<A extends Args>(
  operation: Operation<A>,
  values: ArgValues<A>,
): Record<string, string> {
  const shown: Record<string, string> = {};
  for (const [name, arg] of Object.entries(operation.args)) {
    const value = (values as Readonly<Record<string, unknown>>)[name];
    if (value === undefined || arg.isSecret === true || name === "tenant" || name === "timeline") continue;
    shown[name] = redactPasswords(arg.format(value));
  }
  return shown;
}

/** Formats the command that {@link parseArgs} parses. */
export function formatCommand<A extends Args>(operation: Operation<A>, values: ArgValues<A>): string {
  const words = [operation.name];
  for (const [name, arg] of Object.entries(operation.args)) {
    const value = (values as Readonly<Record<string, unknown>>)[name];
    if (value === undefined || arg.form === "flag" && value === false) continue;
    const text = arg.format(value);
    words.push(arg.form === "named" ? `${name}=${text}` : text);
  }
  return words.join(" ");
}

interface Word {
  readonly text: string;
  /** Its offset in the text. */
  readonly at: number;
}

function splitWords(text: string): Word[] {
  return [...text.matchAll(/\S+/g)].map((match) => ({ text: match[0], at: match.index }));
}

type Specs = readonly (readonly [string, Arg<unknown>])[];

function isWrittenAs(name: string, form: ArgForm, word: string): boolean {
  return form === "flag" ? word === name : form === "named" && word.startsWith(`${name}=`);
}

function isForLater(specs: Specs, word: string): boolean {
  return specs.some(([name, { form }]) => isWrittenAs(name, form, word));
}

function expectedLater(specs: Specs): string {
  return specs.flatMap(([name, { form, placeholder }]) =>
    form === "flag" ? [`"${name}"`] : form === "named" ? [`${name}=<${placeholder}>`] : []
  ).join(" or ") || "an argument of it";
}

function read(name: string, arg: Arg<unknown>, text: string): unknown {
  const result = safeParse(arg.schema, text);
  if (result.success) return result.output;
  throw invalid(`${name} is "${text}": ${result.issues[0].message}`);
}

function invalid(message: string): ZenithError {
  return new ZenithError("invalid_argument", message);
}
