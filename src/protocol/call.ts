/** The client's end of the management contract. */
import { safeParse } from "valibot";
import { ZenithError } from "../common/errors.ts";
import type { QueryResult } from "../pgwire/client.ts";
import {
  type Args,
  type ArgValues,
  formatCommand,
  type Operation,
  type Reply,
  type Result,
} from "./operation.ts";

/** A connection for sending commands. */
export interface Caller {
  query(sql: string): Promise<Pick<QueryResult, "columns" | "rows">>;
}

/**
 * Calls an operation that answers with rows or a tag.
 *
 * @param server the server's name for error messages: "the page server at 127.0.0.1:7600"
 * @throws {ZenithError} the server's own error; `protocol` when its answer makes no sense
 */
export async function call<A extends Args, R extends Reply>(
  client: Caller,
  server: string,
  operation: Operation<A, R>,
  args: ArgValues<A>,
): Promise<Result<R>> {
  const answer = await client.query(formatCommand(operation, args));
  const { reply } = operation as Operation;
  if (reply.kind !== "json" && reply.kind !== "figures") return undefined as Result<R>;
  const row = answer.rows[0];
  if (row === undefined || answer.rows.length !== 1 || reply.kind === "json" && row.length !== 1) {
    throw unexpected(server, operation.name, `${answer.rows.length} rows of ${row?.length ?? 0} columns`);
  }
  const value = reply.kind === "json"
    ? parseJson(row[0])
    : Object.fromEntries(answer.columns.map(({ name }, i) => [name, Number(row[i])]));
  const result = safeParse(reply.schema, value);
  if (result.success) return result.output as Result<R>;
  const issue = result.issues[0];
  const key = issue.path?.map((item) => String(item.key)).join(".") ?? "";
  throw unexpected(server, operation.name, `something unexpected: ${key} ${issue.message}`);
}

function unexpected(server: string, name: string, what: string): ZenithError {
  return new ZenithError("protocol", `${server} answered "${name}" with ${what}`);
}

function parseJson(text: string | null | undefined): unknown {
  try {
    return JSON.parse(text ?? "null");
  } catch {
    return text;
  }
}
