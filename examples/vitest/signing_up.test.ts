import postgres from "postgres";
import { afterAll, expect, test } from "vitest";

const sql = postgres(process.env.DATABASE_URL!);
afterAll(() => sql.end());

test("who signs up is a customer, beside all who were", async () => {
  const before = await sql`SELECT count(*)::int FROM customers`;
  expect(before[0].count).toBeGreaterThan(0);
  await sql`INSERT INTO customers VALUES (1000, 'new@example.com')`;
  const after = await sql`SELECT count(*)::int FROM customers`;
  expect(after[0].count).toBe(before[0].count + 1);
});
