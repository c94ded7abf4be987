/** Makes the files of the console, which `zenith serve` has in it: bun scripts/console.ts makes them alone. */
import { mkdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { LIST_FILE } from "../src/serve/console/assets.ts";

const ROOT = join(import.meta.dirname, "..");

/** @param out the directory; what is in it goes */
export async function buildConsole(out: string): Promise<void> {
  rmSync(out, { recursive: true, force: true });
  mkdirSync(out, { recursive: true });
  const built = await Bun.build({
    entrypoints: [join(ROOT, "console", "index.html")],
    outdir: out,
    target: "browser",
    minify: true,
    // Below this path whatever page of the console is asked for.
    publicPath: "/console/",
    naming: { entry: "[name].[ext]", chunk: "[name]-[hash].[ext]", asset: "[name]-[hash].[ext]" },
  });
  const names = built.outputs.map(({ path }) => basename(path)).sort();
  writeFileSync(join(out, LIST_FILE), JSON.stringify(names));
  const bytes = names.reduce((sum, name) => sum + statSync(join(out, name)).size, 0);
  console.log(`the console is ${Math.round(bytes / 1024)} KiB in ${names.length} files`);
}

if (import.meta.main) await buildConsole(join(ROOT, "dist", "console"));
