/**
 * What a page server and an attached compute say to each other on `compute_attach`, as JSON. The
 * page server asks `{"checkpoint": n}`. The compute answers with the same number and `redo`, an LSN
 * or null, or `failure`. A compute of an earlier version answers nothing.
 */
import { integer, minValue, nullable, number, object, optional, pipe, safeParse, string } from "valibot";
import { ZenithError } from "../common/errors.ts";

const IdSchema = pipe(number(), integer(), minValue(1));
const RequestSchema = object({ checkpoint: IdSchema });
const ReplySchema = object({
  checkpoint: IdSchema,
  redo: optional(nullable(string())),
  failure: optional(string()),
});

export type CheckpointOutcome = { readonly redo: string | null } | { readonly failure: string };

export function checkpointRequest(id: number): Uint8Array {
  return encode({ checkpoint: id });
}

/** Returns the request's number; undefined for what a later version may ask. */
export function parseCheckpointRequest(bytes: Uint8Array): number | undefined {
  const parsed = safeParse(RequestSchema, decode(bytes));
  return parsed.success ? parsed.output.checkpoint : undefined;
}

export function checkpointReply(id: number, outcome: CheckpointOutcome): Uint8Array {
  return encode({ checkpoint: id, ...outcome });
}

/** @throws {ZenithError} `protocol` */
export function parseCheckpointReply(bytes: Uint8Array): { id: number; outcome: CheckpointOutcome } {
  const parsed = safeParse(ReplySchema, decode(bytes));
  if (!parsed.success) throw new ZenithError("protocol", `a compute says: ${parsed.issues[0].message}`);
  const { checkpoint: id, redo = null, failure } = parsed.output;
  return { id, outcome: failure === undefined ? { redo } : { failure } };
}

function encode(value: unknown): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(value));
}

function decode(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    return undefined;
  }
}
