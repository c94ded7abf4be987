import postgres from "postgres";
import { afterAll, expect, test } from "vitest";

const sql = postgres(process.env.DATABASE_URL!);
afterAll(() => sql.end());

test("a shop that closes has no customers", async () => {
  const before = await sql`SELECT count(*)::int FROM customers`;
  expect(before[0].count).toBeGreaterThan(0);
  await sql`TRUNCATE customers`;
  expect(await sql`SELECT * FROM customers`).toHaveLength(0);
});
