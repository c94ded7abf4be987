/** The Debian package: the executable, two systemd units, shell completion, a manual page and the documentation. */
import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { loadCommands } from "../../src/commands/cli/command.ts";
import { COMPLETION_SCRIPTS } from "../../src/commands/cli/completion.ts";
import { COMMANDS } from "../../src/commands/registry.ts";
import { manPage } from "./man_page.ts";
import { ROOT } from "./release_info.ts";
import { type PackageFile, writeTree } from "./tree.ts";

export interface DebOptions {
  readonly version: string;
  /** As Node calls it: `x64`, `arm64`. */
  readonly arch: string;
  readonly executable: string;
  /** What is in it, in CycloneDX. */
  readonly bill: string;
  /** The time of every file. */
  readonly time: Date;
  /** zstd's, 1 to 22. dpkg unpacks zstd from Debian 12 and Ubuntu 18.04 on. */
  readonly compression: number;
  /** Where it is put together, and where the package goes. */
  readonly directory: string;
}

/** Debian's names of architectures. */
const DEBIAN_ARCH: Readonly<Record<string, string>> = { x64: "amd64", arm64: "arm64" };

const PACKAGING = join(ROOT, "packaging");

/** @returns the package's file @throws {Error} when dpkg-deb fails */
export async function makeDeb(options: DebOptions): Promise<string> {
  const { version, arch, time, compression, directory } = options;
  const architecture = DEBIAN_ARCH[arch];
  if (architecture === undefined) throw new Error(`Debian's name of ${arch} is not known`);
  const files = await packageFiles(options);
  const control = readFileSync(join(PACKAGING, "debian", "control"), "utf8")
    .replace("@VERSION@", version)
    .replace("@ARCHITECTURE@", architecture)
    .replace("@INSTALLED_SIZE@", String(Math.ceil(bytesOf(files) / 1024)));
  const tree = join(directory, `zenith_${version}_${architecture}`);
  writeTree(tree, [{ path: "DEBIAN/control", content: control }, ...maintainerFiles(), ...files], time);
  const out = `${tree}.deb`;
  const args = ["--root-owner-group", "-Zzstd", `-z${compression}`, "--threads-max=1", "--build", tree, out];
  const built = spawnSync("dpkg-deb", args, {
    encoding: "utf8",
    env: { ...process.env, SOURCE_DATE_EPOCH: String(time.getTime() / 1000) },
  });
  if (built.status !== 0) throw new Error(`dpkg-deb: ${built.error?.message ?? built.stderr}`);
  rmSync(tree, { recursive: true });
  return out;
}

function maintainerFiles(): PackageFile[] {
  const file = (name: string) => ({
    path: `DEBIAN/${name}`,
    content: { file: join(PACKAGING, "debian", name) },
  });
  return [
    file("conffiles"),
    ...["postinst", "prerm", "postrm"].map((name) => ({ ...file(name), executable: true as const })),
  ];
}

async function packageFiles({ executable, bill, version, time }: DebOptions): Promise<PackageFile[]> {
  const man = manPage(await loadCommands(COMMANDS), version, time.toISOString().slice(0, 10));
  const docs = join(ROOT, "docs");
  const text = (name: string) => readFileSync(join(PACKAGING, name), "utf8");
  const doc = "usr/share/doc/zenith";
  return [
    { path: "usr/bin/zenith", content: { file: executable }, executable: true },
    ...["zenith.service", "zenith-serve.service"].map((name) => ({
      path: `usr/lib/systemd/system/${name}`,
      content: text(name).replaceAll("/usr/local/bin/", "/usr/bin/"),
    })),
    { path: "etc/default/zenith", content: text("debian/zenith.default") },
    { path: "usr/share/bash-completion/completions/zenith", content: completion("bash") },
    { path: "usr/share/zsh/vendor-completions/_zenith", content: completion("zsh") },
    { path: "usr/share/fish/vendor_completions.d/zenith.fish", content: completion("fish") },
    { path: "usr/share/man/man1/zenith.1.gz", content: gzipSync(man, { level: 9 }) },
    { path: `${doc}/copyright`, content: text("debian/copyright") },
    { path: `${doc}/README.Debian`, content: text("debian/README.Debian") },
    { path: `${doc}/changelog.gz`, content: gzipSync(text("debian/changelog"), { level: 9 }) },
    { path: `${doc}/zenith.cdx.json`, content: { file: bill } },
    ...["prometheus/zenith.rules.yml", "grafana/zenith.json"].map((name) => ({
      path: `${doc}/examples/${name}`,
      content: text(name),
    })),
    ...readdirSync(docs).filter((name) => name.endsWith(".md")).sort().map((name) => ({
      path: `${doc}/${name}`,
      content: { file: join(docs, name) },
    })),
  ];
}

function completion(shell: string): string {
  return `${COMPLETION_SCRIPTS[shell]!}\n`;
}

function bytesOf(files: readonly PackageFile[]): number {
  return files.reduce((sum, { content }) => {
    if (typeof content === "string") return sum + Buffer.byteLength(content);
    return sum + ("file" in content ? statSync(content.file).size : content.length);
  }, 0);
}
