/** The tables of a database, to look into one by a click. */
import { quoteName } from "./complete.ts";
import type { AskedCatalog } from "./use_catalog.ts";

/** More are found by typing. */
const SHOWN_MAX = 60;
const ROWS = 100;

interface Props extends Omit<AskedCatalog, "ask"> {
  /** Asks for them, which may wake a Postgres. */
  readonly onWanted: () => void;
  /** Is given the statement that shows one. */
  readonly onChoose: (statement: string) => void;
}

export function Tables({ catalog, isAsking, error, onWanted, onChoose }: Props) {
  const own = catalog?.filter(({ isSystem }) => isSystem !== true);
  return (
    <div class="tables" role="group" aria-label="Tables">
      <span class="label" aria-hidden="true">Tables</span>
      {own === undefined && (
        <button type="button" class="chip is-outlined" disabled={isAsking} onClick={onWanted}>
          {isAsking ? "Reading …" : "List them"}
        </button>
      )}
      {error !== undefined && <span class="hint is-problem" role="status">{error.message}</span>}
      {own?.length === 0 && <span class="hint">none in this database</span>}
      {own?.slice(0, SHOWN_MAX).map(({ schema, name }) => {
        const written = schema === "public" ? quoteName(name) : `${quoteName(schema)}.${quoteName(name)}`;
        return (
          <button
            key={written}
            type="button"
            class="chip is-outlined mono"
            title={`Its first ${ROWS} rows`}
            onClick={() => onChoose(`SELECT * FROM ${written} LIMIT ${ROWS}`)}
          >
            {written}
          </button>
        );
      })}
      {own !== undefined && own.length > SHOWN_MAX && (
        <span class="hint">and {own.length - SHOWN_MAX} more</span>
      )}
    </div>
  );
}
