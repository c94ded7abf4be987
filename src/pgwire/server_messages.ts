/** Writes the messages that a server sends. */
import { type Column, columnLength, columnOid, resultFormat, type Value, writeValue } from "./column.ts";
import type { FrameWriter } from "./frame_writer.ts";
import {
  AUTH_OK,
  AUTHENTICATION,
  BACKEND_KEY_DATA,
  COMMAND_COMPLETE,
  COPY_BOTH_RESPONSE,
  COPY_OUT_RESPONSE,
  DATA_ROW,
  ERROR_RESPONSE,
  NEGOTIATE_PROTOCOL_VERSION,
  PARAMETER_DESCRIPTION,
  PARAMETER_STATUS,
  PROTOCOL_VERSION_3_0,
  READY_FOR_QUERY,
  ROW_DESCRIPTION,
  TRANSACTION_IDLE,
} from "./message_types.ts";
import { reportOf } from "./sqlstate.ts";

/** Field codes of ErrorResponse and NoticeResponse. */
const FIELD_SEVERITY = "S".charCodeAt(0);
const FIELD_SEVERITY_UNTRANSLATED = "V".charCodeAt(0);
const FIELD_SQLSTATE = "C".charCodeAt(0);
const FIELD_MESSAGE = "M".charCodeAt(0);
const FIELD_HINT = "H".charCodeAt(0);

const NO_BODY = new Uint8Array(0);
const TYPMOD_NONE = -1;

export function writeAuthenticationOk(out: FrameWriter): void {
  writeAuthenticationRequest(out, AUTH_OK, NO_BODY);
}

/** @param request an AUTH_REQ_* code of libpq/pqcomm.h */
export function writeAuthenticationRequest(out: FrameWriter, request: number, body: Uint8Array): void {
  out.begin(AUTHENTICATION);
  out.int32(request);
  out.raw(body);
  out.finish();
}

export function writeNegotiateProtocolVersion(out: FrameWriter, unknownExtensions: readonly string[]): void {
  out.begin(NEGOTIATE_PROTOCOL_VERSION);
  out.int32(PROTOCOL_VERSION_3_0);
  out.int32(unknownExtensions.length);
  for (const name of unknownExtensions) out.cstring(name);
  out.finish();
}

export function writeParameterStatus(out: FrameWriter, name: string, value: string): void {
  out.begin(PARAMETER_STATUS);
  out.cstring(name);
  out.cstring(value);
  out.finish();
}

export function writeBackendKeyData(out: FrameWriter, processId: number, secretKey: number): void {
  out.begin(BACKEND_KEY_DATA);
  out.int32(processId);
  out.int32(secretKey);
  out.finish();
}

export function writeReadyForQuery(out: FrameWriter): void {
  out.begin(READY_FOR_QUERY);
  out.uint8(TRANSACTION_IDLE);
  out.finish();
}

export function writeCommandComplete(out: FrameWriter, tag: string): void {
  out.begin(COMMAND_COMPLETE);
  out.cstring(tag);
  out.finish();
}

/** @param severity `ERROR`, or `FATAL` when the connection is closed after it */
export function writeErrorResponse(out: FrameWriter, severity: "ERROR" | "FATAL", error: unknown): void {
  const { sqlstate, message, hint } = reportOf(error);
  out.begin(ERROR_RESPONSE);
  writeField(out, FIELD_SEVERITY, severity);
  writeField(out, FIELD_SEVERITY_UNTRANSLATED, severity);
  writeField(out, FIELD_SQLSTATE, sqlstate);
  writeField(out, FIELD_MESSAGE, message);
  if (hint !== undefined) writeField(out, FIELD_HINT, hint);
  out.uint8(0);
  out.finish();
}

function writeField(out: FrameWriter, code: number, text: string): void {
  out.uint8(code);
  out.cstring(text);
}

export function writeParameterDescription(out: FrameWriter, oids: readonly number[]): void {
  out.begin(PARAMETER_DESCRIPTION);
  out.int16(oids.length);
  for (const oid of oids) out.int32(oid);
  out.finish();
}

export function writeRowDescription(
  out: FrameWriter,
  columns: readonly Column[],
  formats: readonly number[],
): void {
  out.begin(ROW_DESCRIPTION);
  out.int16(columns.length);
  for (let i = 0; i < columns.length; i++) {
    const { name, type } = columns[i];
    out.cstring(name);
    out.int32(0); // no table
    out.int16(0); // no attribute number
    out.int32(columnOid(type));
    out.int16(columnLength(type));
    out.int32(TYPMOD_NONE);
    out.int16(resultFormat(formats, i));
  }
  out.finish();
}

export function writeDataRow(
  out: FrameWriter,
  columns: readonly Column[],
  row: readonly Value[],
  formats: readonly number[],
): void {
  out.begin(DATA_ROW);
  out.int16(row.length);
  for (let i = 0; i < row.length; i++) writeValue(out, columns[i].type, row[i], resultFormat(formats, i));
  out.finish();
}

export function writeCopyOutResponse(out: FrameWriter): void {
  writeCopyResponse(out, COPY_OUT_RESPONSE);
}

export function writeCopyBothResponse(out: FrameWriter): void {
  writeCopyResponse(out, COPY_BOTH_RESPONSE);
}

/**
 * The overall format is text and there are no columns. That is what walsender answers, so every
 * client accepts it.
 */
function writeCopyResponse(out: FrameWriter, type: number): void {
  out.begin(type);
  out.uint8(0);
  out.int16(0);
  out.finish();
}
