/** The environment of a client program of PostgreSQL: libpq reads its variables. */

export type Variables = Readonly<Record<string, string | undefined>>;

/** Variables of libpq that would override the address in the others. */
const MISLEADING = ["PGHOSTADDR", "PGSERVICE", "PGSERVICEFILE"];

/** Adds `connection` to this process's environment, for a program that connects there. */
export function clientEnvironment(connection: Variables): Variables {
  const env: Record<string, string | undefined> = { ...process.env, ...connection };
  for (const name of MISLEADING) delete env[name];
  return env;
}
