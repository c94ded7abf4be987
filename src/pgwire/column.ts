/**
 * Defines result columns: the few types that Zenith's commands return, and how their values are
 * encoded.
 */
import { ZenithError } from "../common/errors.ts";
import type { FrameWriter } from "./frame_writer.ts";

/** The type OID (pg_type.dat) and typlen of each column type. -1 means variable length. */
const TYPES = {
  bool: { oid: 16, typlen: 1, sqlName: "boolean" },
  bytea: { oid: 17, typlen: -1, sqlName: "bytea" },
  int8: { oid: 20, typlen: 8, sqlName: "bigint" },
  int4: { oid: 23, typlen: 4, sqlName: "integer" },
  text: { oid: 25, typlen: -1, sqlName: "text" },
  json: { oid: 114, typlen: -1, sqlName: "json" },
} as const;

export type ColumnType = keyof typeof TYPES;

export interface Column {
  name: string;
  type: ColumnType;
}

/** `json` takes text that is already JSON. `bytea` takes bytes. */
export type Value = string | number | bigint | boolean | Uint8Array | null;

const TEXT_FORMAT = 0;
const BINARY_FORMAT = 1;

export function columnOid(type: ColumnType): number {
  return TYPES[type].oid;
}

export function columnLength(type: ColumnType): number {
  return TYPES[type].typlen;
}

/**
 * Returns format_type()'s name for the type. Like Postgres, it returns `???` for an unknown type:
 * one that none of Zenith's columns has.
 */
export function typeNameOfOid(oid: number): string {
  for (const type of Object.values(TYPES)) {
    if (type.oid === oid) return type.sqlName;
  }
  return "???";
}

/**
 * Returns the format that Bind requests for column `index`. An empty list means text, and a single
 * format applies to all columns.
 */
export function resultFormat(formats: readonly number[], index: number): number {
  if (formats.length === 0) return TEXT_FORMAT;
  return formats.length === 1 ? formats[0] : formats[index] ?? TEXT_FORMAT;
}

/** Writes one field of a DataRow: its length and bytes. */
export function writeValue(out: FrameWriter, type: ColumnType, value: Value, format: number): void {
  if (value === null) {
    out.int32(-1);
    return;
  }
  if (format === BINARY_FORMAT && writeBinary(out, type, value)) return;
  const lengthAt = out.pos;
  out.int32(0);
  const written = out.text(toText(value));
  const end = out.pos;
  out.pos = lengthAt;
  out.int32(written);
  out.pos = end;
}

/** @returns false when the binary form equals the text form */
function writeBinary(out: FrameWriter, type: ColumnType, value: Value): boolean {
  switch (type) {
    case "bool":
      out.int32(1);
      out.uint8(value === true || value === "t" || value === "true" ? 1 : 0);
      return true;
    case "int4":
      out.int32(4);
      out.int32(Number(value));
      return true;
    case "int8": {
      const wide = BigInt(value as string | number | bigint);
      out.int32(8);
      out.int32(Number(BigInt.asIntN(32, wide >> 32n)));
      out.int32(Number(BigInt.asIntN(32, wide)));
      return true;
    }
    case "bytea":
      if (!(value instanceof Uint8Array)) {
        throw new ZenithError("invalid_argument", "a bytea column takes bytes");
      }
      out.int32(value.length);
      out.raw(value);
      return true;
    case "text":
    case "json":
      return false;
  }
}

function toText(value: string | number | bigint | boolean | Uint8Array): string {
  if (typeof value === "string") return value;
  if (typeof value === "boolean") return value ? "t" : "f";
  if (value instanceof Uint8Array) {
    let hex = "\\x";
    for (const byte of value) hex += byte.toString(16).padStart(2, "0");
    return hex;
  }
  return String(value);
}
