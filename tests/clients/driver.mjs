// Runs the stock serverless driver against zenith serve, and prints what it got as JSON. Arguments: the HTTP port, the
// connection string, and "tls" when the port is encrypted.
import { neon, neonConfig, Pool } from "@neondatabase/serverless";
import WebSocket from "ws";

const [port, url, tls] = process.argv.slice(2);
const { hostname } = new URL(url);
neonConfig.fetchEndpoint = () => `http${tls === undefined ? "" : "s"}://127.0.0.1:${port}/sql`;
neonConfig.useSecureWebSocket = tls !== undefined;
neonConfig.wsProxy = () => `${hostname}:${port}/v2`;
// No name server knows the test's host name.
const lookup = (_name, options, done) =>
  options.all ? done(null, [{ address: "127.0.0.1", family: 4 }]) : done(null, "127.0.0.1", 4);
neonConfig.webSocketConstructor = class extends WebSocket {
  constructor(address, protocols) {
    super(address, protocols, { lookup });
  }
};

const sql = neon(url);
const print = (name, value) => console.log(JSON.stringify([name, value]));
const failure = ({ name, code, message }) => ({ name, code, message });

print(
  "template",
  await sql`SELECT ${1}::int + 1 AS n, ${[1, 2]}::int[] AS a, ${{ b: [1] }}::jsonb AS j, ${null}::text AS z`,
);
const full = await neon(url, { fullResults: true, arrayMode: true })`SELECT 1 AS x, 'y'::text AS y`;
print("full", {
  rows: full.rows,
  command: full.command,
  rowCount: full.rowCount,
  names: full.fields.map(({ name }) => name),
});
print(
  "types",
  await sql`SELECT true AS b, 1.5::float8 AS f, 12345678901234567890::numeric AS n, '{"a","b c"}'::text[] AS t, NULL AS z`,
);
print(
  "transaction",
  await sql.transaction([
    sql`SELECT current_setting('transaction_isolation') AS level, current_setting('transaction_read_only') AS ro`,
    sql`SELECT pg_current_xact_id_if_assigned() AS x`,
  ], { isolationLevel: "RepeatableRead", readOnly: true }),
);
await sql`CREATE TABLE IF NOT EXISTS driver (a int PRIMARY KEY)`;
await sql`TRUNCATE driver`;
const torn = sql.transaction([sql`INSERT INTO driver VALUES (1)`, sql`INSERT INTO driver VALUES (1)`]);
print("duplicate", failure(await torn.catch((error) => error)));
print("rolled back", await sql`SELECT count(*)::int AS n FROM driver`);
print("syntax", failure(await sql`SELEC 1`.catch((error) => error)));
const wrong = url.replace(/:[^:@/]+@/, ":wrong@");
print("password", failure(await neon(wrong)`SELECT 1`.catch((error) => error)));

const pool = new Pool({ connectionString: url, max: 3 });
print(
  "pool",
  (await Promise.all([1, 2, 3, 4].map((n) => pool.query("SELECT $1::int AS n", [n])))).map(({ rows }) =>
    rows[0].n
  ),
);
const client = await pool.connect();
await client.query("BEGIN");
await client.query("INSERT INTO driver SELECT generate_series(1, 5000)");
print("session", (await client.query("SELECT a FROM driver ORDER BY a")).rows.length);
await client.query("ROLLBACK");
client.release();
print("large", (await pool.query("SELECT repeat('x', 1000000) AS x")).rows[0].x.length);
await pool.end();
const stranger = new Pool({ connectionString: wrong });
print("pool password", failure(await stranger.query("SELECT 1").catch((error) => error)));
await stranger.end().catch(() => {});
