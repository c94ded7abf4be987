/**
 * The server's end of the management contract: it parses, runs and answers commands from the wire.
 */
import { ZenithError } from "../common/errors.ts";
import type { Column } from "../pgwire/column.ts";
import { bareCommand } from "../pgwire/command_text.ts";
import { ignoredStatementTag } from "../pgwire/ignored_statement.ts";
import type { ConnectionHandler, Session } from "../pgwire/session.ts";
import {
  type Answer,
  type Args,
  type ArgValues,
  namedBy,
  type Operation,
  parseArgs,
  type Reply,
} from "./operation.ts";
import type { Guard } from "./guard.ts";
import type { TenantLimits } from "./tenant_limits.ts";

export type Operations = Readonly<Record<string, Operation>>;

/**
 * The handler of each operation. A handler sends streams over the session and returns everything
 * else.
 */
export type Handlers<O extends Operations> = {
  readonly [K in keyof O]: O[K] extends Operation<infer A extends Args, infer R extends Reply>
    ? (args: ArgValues<A>, session: Session) => Answer<R> | Promise<Answer<R>>
    : never;
};

interface Served {
  readonly operation: Operation;
  readonly columns: readonly Column[] | null;
  handle(args: ArgValues<Args>, session: Session): unknown;
}

/** Tells whether all that a command shows or changes comes from masks. */
type IsMasked = (operation: Operation, args: ArgValues<Args>) => Promise<boolean>;

/** Serves each operation as the command of its name. */
export class OperationService implements ConnectionHandler {
  readonly #server: string;
  readonly #guard: Guard;
  readonly #limits: TenantLimits;
  readonly #served: ReadonlyMap<string, Served>;
  readonly #others: readonly string[];
  readonly #isMasked: IsMasked;

  /**
   * @param server its name for error messages: "the page server"
   * @param guard decides who may call what
   * @param limits decides how much of it at once
   * @param others another handler's commands, for the hint that lists them all
   * @param isMasked asked for clients who may see only what is masked
   */
  constructor(
    server: string,
    guard: Guard,
    limits: TenantLimits,
    operations: Operations,
    handlers: Handlers<Operations>,
    others: readonly string[] = [],
    isMasked: IsMasked = () => Promise.resolve(false),
  ) {
    this.#server = server;
    this.#guard = guard;
    this.#limits = limits;
    this.#others = others;
    this.#isMasked = isMasked;
    this.#served = new Map(
      Object.entries(operations).map(([key, operation]) => [
        operation.name,
        { operation, columns: columnsOf(operation.reply), handle: handlers[key] as Served["handle"] },
      ]),
    );
  }

  startup(session: Session): void {
    this.#limits.admit(session);
  }

  closed(session: Session): void {
    this.#limits.leave(session);
  }

  describe(_session: Session, sql: string): readonly Column[] | null {
    return ignoredStatementTag(sql) === undefined ? this.#find(bareCommand(sql)).served.columns : null;
  }

  async query(session: Session, sql: string, params: readonly (string | null)[] = []): Promise<void> {
    const ignored = ignoredStatementTag(sql);
    if (ignored !== undefined) {
      session.sendCommandComplete(ignored);
      return;
    }
    const { served, argsText } = this.#find(bareCommand(sql));
    const { operation, columns } = served;
    if (params.length > 0) {
      throw new ZenithError(
        "invalid_argument",
        `commands of ${this.#server} take no parameters: write the values out`,
      );
    }
    const args = parseArgs(operation, argsText);
    const named = operation.namesInStream ? null : namedBy(operation, args);
    const work = async () => {
      const { name, access } = operation;
      await this.#guard.checkAll(session, name, access, named, () => this.#isMasked(operation, args));
      // A stream lasts as long as its connection, and is counted as one. The operator is no tenant.
      const { tenant } = this.#guard.principal(session);
      using _counted = tenant === undefined || operation.reply.kind === "copy_both"
        ? undefined
        : this.#limits.begin(tenant);
      return await served.handle(args, session);
    };
    const answer = operation.changes
      ? await this.#guard.audited(session, operation, args, work)
      : await work();
    switch (operation.reply.kind) {
      case "json":
        session.sendRows(columns!, [[JSON.stringify(answer)]]);
        return;
      case "figures": {
        const figures = answer as Readonly<Record<string, number>>;
        session.sendRows(columns!, [columns!.map(({ name }) => figures[name])]);
        return;
      }
      case "tag":
        session.sendCommandComplete(operation.name.toUpperCase());
    }
  }

  #find(text: string): { served: Served; argsText: string } {
    const blank = text.search(/\s/);
    const name = (blank < 0 ? text : text.slice(0, blank)).toLowerCase();
    const served = this.#served.get(name);
    if (served === undefined) {
      const known = [...this.#served.keys(), ...this.#others].join(", ");
      throw new ZenithError("invalid_argument", `unknown command "${text.slice(0, 100)}"`, {
        hint: `${this.#server} knows ${known}`,
      });
    }
    return { served, argsText: blank < 0 ? "" : text.slice(blank) };
  }
}

function columnsOf(reply: Reply): readonly Column[] | null {
  switch (reply.kind) {
    case "json":
      return [{ name: "result", type: reply.columnType }];
    case "figures":
      return reply.columns.map((name) => ({ name, type: "int8" }));
    default:
      return null;
  }
}
