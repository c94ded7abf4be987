/** The names of a database's tables and columns, for completion. */
import { useEffect, useRef, useState } from "preact/hooks";
import { sql, toError } from "../api.ts";
import type { Catalog } from "./complete.ts";

/** Tables of people first. Of those of PostgreSQL's own, the catalogs and their views. */
const NAMES = `SELECT n.nspname, c.relname,
  coalesce(json_agg(json_build_array(a.attname, format_type(a.atttypid, a.atttypmod)) ORDER BY a.attnum)
    FILTER (WHERE a.attname IS NOT NULL), '[]')
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relkind IN ('r', 'v', 'm', 'f', 'p') AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_t(oast|emp)'
GROUP BY 1, 2 ORDER BY n.nspname = 'pg_catalog', 1, 2 LIMIT 3000`;

export interface AskedCatalog {
  /** Undefined while it is not known. */
  readonly catalog: Catalog | undefined;
  readonly isAsking: boolean;
  /** Why it could not be read. */
  readonly error: Error | undefined;
  /** Asks for it, unless it was asked for already. */
  readonly ask: () => void;
}

/** What an answer, or the lack of one, is about. */
interface Asked {
  readonly key: string;
  readonly catalog?: Catalog;
  readonly error?: Error;
}

/**
 * @param isAwake whether to ask by itself: for names alone nobody wakes a Postgres
 * @param uriOf the connection string
 */
export function useCatalog(
  key: string,
  isAwake: boolean,
  uriOf: () => Promise<string>,
  moment: string | undefined,
): AskedCatalog {
  const [found, setFound] = useState<Asked>();
  const asked = useRef<string | undefined>(undefined);
  const stop = useRef(new AbortController());
  useEffect(() => () => stop.current.abort(), []);
  const ask = () => {
    if (asked.current === key) return;
    asked.current = key;
    setFound({ key });
    const answer = (outcome: Omit<Asked, "key">) =>
      setFound((now) => now?.key === key ? { key, ...outcome } : now);
    const read = async () => {
      const { rows } = await sql(await uriOf(), NAMES, moment, stop.current.signal);
      answer({ catalog: rows.map(tableOf) });
    };
    read().catch((error) => {
      // It can be asked for again.
      if (asked.current === key) asked.current = undefined;
      answer({ error: toError(error) });
    });
  };
  useEffect(() => {
    if (isAwake) ask();
  }, [key, isAwake]);
  const { catalog, error } = found?.key === key ? found : {};
  const isAsking = found?.key === key && catalog === undefined && error === undefined;
  return { catalog, isAsking, error, ask };
}

function tableOf([schema, name, columns]: readonly (string | null)[]) {
  const found = JSON.parse(columns!) as [name: string, type: string][];
  return {
    // Nobody writes it out.
    schema: schema === "pg_catalog" ? "public" : schema!,
    name: name!,
    isSystem: schema === "pg_catalog",
    columns: found.map(([name, type]) => ({ name, type })),
  };
}
