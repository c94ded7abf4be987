/** Compares the sequences of two sides. */
import type { ChangedRelation } from "../page_server_client.ts";
import type { Side } from "./side.ts";
import { FILE, onBoth } from "./tables.ts";

/** The JSON of a sequence that differs: docs/cli.md describes each key. */
export interface SequenceDiff {
  readonly schema: string;
  readonly sequence: string;
  readonly only_in: "a" | "b" | null;
  /** The last value as text; null where there is no such sequence, or nobody has used it. */
  readonly before: string | null;
  readonly after: string | null;
}

interface Sequence {
  readonly oid: string;
  readonly schema: string;
  readonly sequence: string;
  readonly file: string;
}

/**
 * Lists sequences with different positions, and those that only one side has, ordered by name. It
 * reads only sequences whose file has changed.
 *
 * @param changed undefined when everything may have changed
 */
export async function diffSequences(
  sides: readonly [Side, Side],
  changed: readonly ChangedRelation[] | undefined,
): Promise<SequenceDiff[]> {
  const changedFiles = new Set((changed ?? []).map(({ spc, rel }) => `${spc}/${rel}`));
  const [ones, others] = await onBoth(sides, listSequences);
  const found: SequenceDiff[] = [];
  for (const name of [...new Set([...ones.keys(), ...others.keys()])].sort()) {
    const [one, other] = [ones.get(name), others.get(name)];
    const isSameFile = changed !== undefined && one?.file === other?.file && one?.oid === other?.oid;
    if (isSameFile && !changedFiles.has(one!.file)) continue;
    const [before, after] = await Promise.all([lastValue(sides[0], one), lastValue(sides[1], other)]);
    const isOnBoth = one !== undefined && other !== undefined;
    if (isOnBoth && before === after) continue;
    const { schema, sequence } = (one ?? other)!;
    found.push({ schema, sequence, only_in: isOnBoth ? null : one === undefined ? "b" : "a", before, after });
  }
  return found;
}

async function listSequences(side: Side): Promise<Map<string, Sequence>> {
  const rows = await side.rows(
    `SELECT c.oid::text, n.nspname, c.relname, ${FILE} FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE c.relkind = 'S' AND c.relpersistence = 'p'`,
  );
  return new Map(
    rows.map(([oid, schema, sequence, file]) => [`${schema}\0${sequence}`, {
      oid: oid!,
      schema: schema!,
      sequence: sequence!,
      file: file!,
    }]),
  );
}

async function lastValue(side: Side, sequence: Sequence | undefined): Promise<string | null> {
  if (sequence === undefined) return null;
  const rows = await side.rows(`SELECT pg_sequence_last_value(${sequence.oid})::text`);
  return rows[0][0];
}
