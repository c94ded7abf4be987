/** A table whose contents one value tells: for computes whose files are looked at while they come and go. */
import type { Compute } from "./zenith_env.ts";

/** All of {@link createAccounts}' rows. Without sorting, for which Postgres would write temporary files. */
export const ACCOUNTS_CONTENT = "SELECT count(*) || ' ' || sum(hashtextextended(a::text, 1)) FROM accounts a";

/** 40,000 rows are some 30 MB with their index. With amcheck, to compare the two. */
export async function createAccounts(compute: Compute, rows: number): Promise<void> {
  await compute.query("CREATE EXTENSION amcheck");
  await compute.query("CREATE TABLE accounts (id int PRIMARY KEY, balance int NOT NULL, filler text)");
  await compute.query(
    `INSERT INTO accounts SELECT n, 0, repeat(md5(n::text), 18) FROM generate_series(1, ${rows}) n`,
  );
}
