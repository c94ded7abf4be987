/** Runs statements of the extended protocol on a session, with everything as text. */
import * as code from "../../pgwire/message_types.ts";
import { ByteCursor } from "../../pgwire/byte_cursor.ts";
import { PgError } from "../../pgwire/sqlstate.ts";
import { HttpError } from "../http/problem.ts";
import { errorFields, int16, int32, message } from "../proxy/messages.ts";
import type { Wire } from "../proxy/wire.ts";

/** A column, by the names that Neon's driver reads. */
export interface Field {
  readonly name: string;
  readonly tableID: number;
  readonly columnID: number;
  readonly dataTypeID: number;
  readonly dataTypeSize: number;
  readonly dataTypeModifier: number;
  readonly format: "text";
}

export interface Result {
  readonly fields: readonly Field[];
  readonly rows: readonly (readonly (string | null)[])[];
  readonly command: string;
  readonly rowCount: number | null;
}

/** What Postgres has said is wrong, with all its fields. */
export class SqlError extends PgError {
  override name = "SqlError";
  /** By the letters of ErrorResponse. */
  readonly fields: ReadonlyMap<string, string>;

  constructor(fields: ReadonlyMap<string, string>) {
    super(fields.get("C") ?? "XX000", fields.get("M") ?? "", { severity: fields.get("V") ?? "ERROR" });
    this.fields = fields;
  }
}

/** How much one answer may hold. */
export const RESULT_MAX_BYTES = 10 << 20;
/** A row can't be larger than what is allowed of the whole. */
const MESSAGE_MAX_BYTES = 2 * RESULT_MAX_BYTES;

/** What is left of {@link RESULT_MAX_BYTES} for the statements of a request. */
export interface Budget {
  bytes: number;
}

/**
 * @throws {SqlError}
 * @throws {HttpError} `507` when the rows are too many; the session can't be used any more
 */
export async function query(
  wire: Wire,
  sql: string,
  params: readonly (string | null)[],
  budget: Budget,
): Promise<Result> {
  const values = params.flatMap((value) => {
    if (value === null) return [int32(-1)];
    const bytes = Buffer.from(value);
    return [int32(bytes.length), bytes];
  });
  wire.write(Buffer.concat([
    message(code.PARSE, "\0", `${sql}\0`, int16(0)),
    message(code.BIND, "\0\0", int16(0), int16(params.length), ...values, int16(0)),
    message(code.DESCRIBE, "P\0"),
    message(code.EXECUTE, "\0", int32(0)),
    message(code.SYNC),
  ]));
  let fields: Field[] = [];
  const rows: (string | null)[][] = [];
  let tag = "";
  let error: SqlError | undefined;
  for (;;) {
    const { type, body } = await wire.message(MESSAGE_MAX_BYTES);
    switch (type) {
      case code.ROW_DESCRIPTION:
        fields = readFields(body);
        break;
      case code.DATA_ROW:
        budget.bytes -= body.length;
        if (budget.bytes < 0) {
          throw new HttpError(507, "too_large", `the answer is larger than ${RESULT_MAX_BYTES} bytes`);
        }
        rows.push(readRow(body));
        break;
      case code.COMMAND_COMPLETE:
        tag = body.toString("utf8", 0, Math.max(body.length - 1, 0));
        break;
      case code.ERROR_RESPONSE:
        error = new SqlError(errorFields(body));
        break;
      case code.COPY_IN_RESPONSE:
        wire.write(
          Buffer.concat([message(code.COPY_FAIL, "COPY does not go over HTTP\0"), message(code.SYNC)]),
        );
        break;
      case code.READY_FOR_QUERY:
        if (error !== undefined) throw error;
        return { fields, rows, ...readTag(tag) };
    }
  }
}

function readFields(body: Buffer): Field[] {
  const cursor = new ByteCursor("RowDescription", body, 0, body.length);
  return Array.from({ length: cursor.count() }, () => ({
    name: cursor.cstring(),
    tableID: cursor.int32(),
    columnID: cursor.int16(),
    dataTypeID: cursor.int32(),
    dataTypeSize: cursor.int16(),
    dataTypeModifier: cursor.int32(),
    format: textFormat(cursor.int16()),
  }));
}

function readRow(body: Buffer): (string | null)[] {
  const cursor = new ByteCursor("DataRow", body, 0, body.length);
  return Array.from({ length: cursor.count() }, () => {
    const length = cursor.int32();
    return length < 0 ? null : cursor.text(length);
  });
}

/** `INSERT 0 5`, `SELECT 3`, `CREATE TABLE`. */
function readTag(tag: string): { command: string; rowCount: number | null } {
  const words = tag.split(" ");
  const command = words[0] ?? "";
  const count = words[command === "INSERT" ? 2 : 1] ?? "";
  return { command, rowCount: /^\d+$/.test(count) ? Number(count) : null };
}

/** We ask for text alone. */
function textFormat(_code: number): "text" {
  return "text";
}
