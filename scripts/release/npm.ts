/**
 * The npm packages: one with a few lines of JavaScript that everybody installs, and one per platform with the
 * executable, of which npm installs the one that fits (`optionalDependencies` with `os`, `cpu` and `libc`).
 */
import { createReadStream, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import { pipeline } from "node:stream/promises";
import { gzipSync } from "node:zlib";
import { type Pack, pack } from "tar-stream";
import { ROOT } from "./release_info.ts";
import type { PackageFile } from "./tree.ts";

/** Whoever publishes has to own it: who else did could put a program of theirs beside ours. */
export const SCOPE = "@zenith-postgres";

export interface NpmOptions {
  readonly version: string;
  /** The time of every file. */
  readonly time: Date;
  /** gzip's, 1 to 9. */
  readonly compression: number;
  /** Where the packages go. */
  readonly directory: string;
}

export interface PlatformOptions extends NpmOptions {
  /** As Node calls it: `x64`, `arm64`. */
  readonly arch: string;
  readonly executable: string;
  /** What is in it, in CycloneDX. */
  readonly bill: string;
}

const COMMON = {
  description: "Branches at any point in time, for unmodified PostgreSQL",
  license: "Apache-2.0",
};

/** @param arches the platforms that there are packages for @returns the tarball's file */
export async function makeMainPackage(options: NpmOptions, arches: readonly string[]): Promise<string> {
  const { version } = options;
  const shim = readFileSync(join(ROOT, "packaging", "npm", "zenith.cjs"), "utf8").replace("@SCOPE@", SCOPE);
  const json = {
    name: "zenith",
    version,
    ...COMMON,
    bin: { zenith: "bin/zenith.cjs" },
    engines: { node: ">=18" },
    optionalDependencies: Object.fromEntries(arches.map((arch) => [`${SCOPE}/linux-${arch}`, version])),
  };
  return await writeTarball(`zenith-${version}.tgz`, options, [
    { path: "package.json", content: formatJson(json) },
    { path: "bin/zenith.cjs", content: shim, executable: true },
    ...commonFiles(),
  ]);
}

/** @returns the tarball's file */
export async function makePlatformPackage(options: PlatformOptions): Promise<string> {
  const { version, arch, executable, bill } = options;
  const json = {
    name: `${SCOPE}/linux-${arch}`,
    version,
    ...COMMON,
    description: `The executable of zenith for Linux on ${arch}`,
    os: ["linux"],
    cpu: [arch],
    libc: ["glibc"],
    preferUnplugged: true,
  };
  return await writeTarball(`zenith-linux-${arch}-${version}.tgz`, options, [
    { path: "package.json", content: formatJson(json) },
    { path: "bin/zenith", content: { file: executable }, executable: true },
    { path: "zenith.cdx.json", content: { file: bill } },
    ...commonFiles(),
  ]);
}

function commonFiles(): PackageFile[] {
  return [
    { path: "LICENSE", content: { file: join(ROOT, "LICENSE") } },
    { path: "README.md", content: { file: join(ROOT, "packaging", "npm", "README.md") } },
  ];
}

function formatJson(value: unknown): string {
  return `${JSON.stringify(value, null, 2)}\n`;
}

/**
 * As `npm pack` does, but with a time of our own and the compression that is asked for. All of it is
 * compressed at once: what a stream makes of the same bytes depends on the pieces in which they come.
 */
async function writeTarball(
  name: string,
  { time, compression, directory }: NpmOptions,
  files: readonly PackageFile[],
): Promise<string> {
  const out = join(directory, name);
  const tar = pack();
  const content = buffer(tar);
  for (const file of [...files].sort((a, b) => a.path < b.path ? -1 : 1)) await addFile(tar, file, time);
  tar.finalize();
  writeFileSync(out, gzipSync(await content, { level: compression }));
  return out;
}

async function addFile(tar: Pack, { path, content, executable }: PackageFile, time: Date): Promise<void> {
  const head = { name: `package/${path}`, mode: executable === true ? 0o755 : 0o644, mtime: time };
  if (typeof content === "object" && "file" in content) {
    const { size } = statSync(content.file);
    await pipeline(createReadStream(content.file), tar.entry({ ...head, size }));
    return;
  }
  await new Promise<void>((resolve, reject) => {
    tar.entry(head, Buffer.from(content), (error) => error == null ? resolve() : reject(error));
  });
}
