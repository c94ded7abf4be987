/** Writes docs/openapi.json: bun scripts/openapi.ts */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { openapi } from "../src/serve/api/openapi.ts";

const FILE = join(import.meta.dirname, "..", "docs", "openapi.json");

writeFileSync(FILE, `${JSON.stringify(openapi(), null, 2)}\n`);
