/** `npm run bench -- <name>` runs tests/bench/<name>.ts, which exports `run()`. */
import { readdirSync } from "node:fs";

const NOT_BENCHMARKS = new Set(["main.ts", "harness.ts", "receiver.ts"]);

const names = readdirSync(new URL(".", import.meta.url))
  .filter((file) => /^[a-z_]+\.ts$/.test(file) && !NOT_BENCHMARKS.has(file))
  .map((file) => file.slice(0, -".ts".length))
  .sort();
const name = process.argv[2] ?? "";
if (!names.includes(name)) {
  console.error(`usage: npm run bench -- <name>, where <name> is one of: ${names.join(", ")}`);
  process.exit(2);
}
const bench: { run(args: readonly string[]): Promise<void> } = await import(`./${name}.ts`);
await bench.run(process.argv.slice(3));
