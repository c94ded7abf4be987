import { integer, pgTable, text } from "drizzle-orm/pg-core";

export const customers = pgTable("customers", {
  id: integer().primaryKey(),
  email: text().notNull().unique(),
});
