/**
 * Implements the extended query protocol: prepared statements, portals, and what Describe says
 * about them.
 */
import { ByteCursor } from "./byte_cursor.ts";
import { type Column, columnOid } from "./column.ts";
import type { FrameWriter } from "./frame_writer.ts";
import { PREPARED_MAX_BYTES, PREPARED_MAX_COUNT } from "./limits.ts";
import { BIND_COMPLETE, CLOSE_COMPLETE, NO_DATA, PARSE_COMPLETE } from "./message_types.ts";
import { writeParameterDescription, writeRowDescription } from "./server_messages.ts";
import {
  PgError,
  ProtocolError,
  SQLSTATE_CONFIGURATION_LIMIT_EXCEEDED,
  SQLSTATE_DUPLICATE_PREPARED_STATEMENT,
  SQLSTATE_FEATURE_NOT_SUPPORTED,
  SQLSTATE_INVALID_CURSOR_NAME,
  SQLSTATE_INVALID_PREPARED_STATEMENT,
} from "./sqlstate.ts";

const STATEMENT = "S".charCodeAt(0);
const PORTAL = "P".charCodeAt(0);
const OID_UNSPECIFIED = 0;

/** The most memory that a map entry, a character and a number take. */
const ENTRY_BYTES = 200;
const CHARACTER_BYTES = 2;
const NUMBER_BYTES = 8;

export interface Statement {
  /** How much memory the statement takes. */
  bytes: number;
  sql: string;
  parameterOids: readonly number[];
}

export interface Portal {
  /** How much memory the portal takes. */
  bytes: number;
  sql: string;
  params: readonly (string | null)[];
  resultFormats: readonly number[];
}

type Describe = (sql: string) => readonly Column[] | null;

/**
 * One session's prepared statements and portals. Each method reads one message body and writes the
 * answer.
 */
export class ExtendedQuery {
  readonly #statements = new Map<string, Statement>();
  readonly #portals = new Map<string, Portal>();
  #bytes = 0;

  /** How much memory the statements and portals take. */
  get bytes(): number {
    return this.#bytes;
  }

  parse(out: FrameWriter, bytes: Uint8Array, off: number, len: number): void {
    const cursor = new ByteCursor("Parse message", bytes, off, len);
    const name = cursor.cstring();
    const sql = cursor.cstring();
    const declared: number[] = [];
    for (let left = cursor.count(); left > 0; left--) declared.push(cursor.int32());
    cursor.end();
    if (name !== "" && this.#statements.has(name)) {
      throw new PgError(SQLSTATE_DUPLICATE_PREPARED_STATEMENT, `prepared statement "${name}" already exists`);
    }
    const count = Math.max(declared.length, highestParameter(sql));
    const takes = ENTRY_BYTES + CHARACTER_BYTES * (name.length + sql.length) + NUMBER_BYTES * count;
    this.#delete(this.#statements, name);
    this.#checkRoom(takes);
    const parameterOids = Array.from({ length: count }, (_, i) => {
      const oid = declared[i] ?? OID_UNSPECIFIED;
      return oid === OID_UNSPECIFIED ? columnOid("text") : oid;
    });
    this.#bytes += takes;
    this.#statements.set(name, { bytes: takes, sql, parameterOids });
    out.empty(PARSE_COMPLETE);
  }

  bind(out: FrameWriter, bytes: Uint8Array, off: number, len: number): void {
    const cursor = new ByteCursor("Bind message", bytes, off, len);
    const portalName = cursor.cstring();
    const statement = this.#statement(cursor.cstring());
    for (let left = cursor.count(); left > 0; left--) {
      if (cursor.int16() !== 0) {
        throw new PgError(SQLSTATE_FEATURE_NOT_SUPPORTED, "parameters in binary format are not supported", {
          hint: "send them as text",
        });
      }
    }
    const params: (string | null)[] = [];
    for (let left = cursor.count(); left > 0; left--) {
      const length = cursor.int32();
      params.push(length === -1 ? null : cursor.text(length));
    }
    const resultFormats: number[] = [];
    for (let left = cursor.count(); left > 0; left--) {
      const format = cursor.int16();
      if (format !== 0 && format !== 1) {
        throw new ProtocolError(`Bind message: unknown result format ${format}`);
      }
      resultFormats.push(format);
    }
    cursor.end();
    if (params.length !== statement.parameterOids.length) {
      throw new PgError(
        "08P01",
        `bind message supplies ${params.length} parameters, ` +
          `but the statement requires ${statement.parameterOids.length}`,
      );
    }
    const characters = params.reduce((sum, param) => sum + (param?.length ?? 0), portalName.length);
    const takes = ENTRY_BYTES + CHARACTER_BYTES * characters +
      NUMBER_BYTES * (params.length + resultFormats.length);
    this.#delete(this.#portals, portalName);
    this.#checkRoom(takes);
    this.#bytes += takes;
    this.#portals.set(portalName, { bytes: takes, sql: statement.sql, params, resultFormats });
    out.empty(BIND_COMPLETE);
  }

  describe(out: FrameWriter, bytes: Uint8Array, off: number, len: number, describe: Describe): void {
    const cursor = new ByteCursor("Describe message", bytes, off, len);
    const kind = cursor.uint8();
    const name = cursor.cstring();
    cursor.end();
    if (kind === STATEMENT) {
      const { sql, parameterOids } = this.#statement(name);
      const columns = describe(sql);
      writeParameterDescription(out, parameterOids);
      writeColumns(out, columns, []);
    } else if (kind === PORTAL) {
      const { sql, resultFormats } = this.#portal(name);
      writeColumns(out, describe(sql), resultFormats);
    } else {
      throw new ProtocolError(`Describe message: unknown kind ${kind}`);
    }
  }

  /**
   * Returns the portal that an Execute message names. Its row limit is ignored, because Zenith's
   * answers are short.
   */
  execute(bytes: Uint8Array, off: number, len: number): Portal {
    const cursor = new ByteCursor("Execute message", bytes, off, len);
    const name = cursor.cstring();
    cursor.int32();
    cursor.end();
    return this.#portal(name);
  }

  close(out: FrameWriter, bytes: Uint8Array, off: number, len: number): void {
    const cursor = new ByteCursor("Close message", bytes, off, len);
    const kind = cursor.uint8();
    const name = cursor.cstring();
    cursor.end();
    if (kind === STATEMENT) this.#delete(this.#statements, name);
    else if (kind === PORTAL) this.#delete(this.#portals, name);
    else throw new ProtocolError(`Close message: unknown kind ${kind}`);
    out.empty(CLOSE_COMPLETE);
  }

  /** Portals live until the transaction ends. Here it ends at Sync. */
  endTransaction(): void {
    for (const name of this.#portals.keys()) this.#delete(this.#portals, name);
  }

  /** A simple query destroys the unnamed statement and portal. */
  dropUnnamed(): void {
    this.#delete(this.#statements, "");
    this.#delete(this.#portals, "");
  }

  /** Drops everything at the end of the session. */
  clear(): void {
    this.#statements.clear();
    this.#portals.clear();
    this.#bytes = 0;
  }

  #statement(name: string): Statement {
    const statement = this.#statements.get(name);
    if (statement === undefined) {
      throw new PgError(SQLSTATE_INVALID_PREPARED_STATEMENT, `prepared statement "${name}" does not exist`);
    }
    return statement;
  }

  #portal(name: string): Portal {
    const portal = this.#portals.get(name);
    if (portal === undefined) {
      throw new PgError(SQLSTATE_INVALID_CURSOR_NAME, `portal "${name}" does not exist`);
    }
    return portal;
  }

  #delete(from: Map<string, Statement | Portal>, name: string): void {
    this.#bytes -= from.get(name)?.bytes ?? 0;
    from.delete(name);
  }

  #checkRoom(bytes: number): void {
    if (this.#bytes + bytes > PREPARED_MAX_BYTES) {
      throw new PgError(
        SQLSTATE_CONFIGURATION_LIMIT_EXCEEDED,
        `prepared statements take too much memory: the limit is ${PREPARED_MAX_BYTES} bytes per connection`,
        { hint: "close those that are not needed any more" },
      );
    }
    if (this.#statements.size + this.#portals.size >= PREPARED_MAX_COUNT) {
      throw new PgError(
        SQLSTATE_CONFIGURATION_LIMIT_EXCEEDED,
        `too many prepared statements: the limit is ${PREPARED_MAX_COUNT} per connection`,
      );
    }
  }
}

function writeColumns(out: FrameWriter, columns: readonly Column[] | null, formats: readonly number[]): void {
  if (columns === null || columns.length === 0) out.empty(NO_DATA);
  else writeRowDescription(out, columns, formats);
}

/** Returns the n of the highest $n outside quotes. Clients need not declare their parameters. */
function highestParameter(sql: string): number {
  let highest = 0;
  for (const match of sql.matchAll(/'[^']*'|"[^"]*"|\$(\d{1,5})/g)) {
    if (match[1] !== undefined) highest = Math.max(highest, Number(match[1]));
  }
  return Math.min(highest, 0x7fff);
}
