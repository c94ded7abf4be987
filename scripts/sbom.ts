/**
 * What an executable is made of, as CycloneDX 1.5 (a software bill of materials), and the checksums of what a
 * build leaves. Neither has a time or a random number in it.
 */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";

const ROOT = join(import.meta.dirname!, "..");

/** A package that is in the executable although npm calls it a development dependency. */
export interface Embedded {
  readonly name: string;
  readonly version: string;
}

interface Component {
  readonly "bom-ref": string;
  readonly name: string;
  readonly hashes?: readonly { readonly alg: string; readonly content: string }[];
}

/**
 * @param embedded the runtime, and the PostgreSQL packages that are inside
 * @returns the text of a CycloneDX document
 * @throws {Error} when npm can't make one
 */
export function billOfMaterials(embedded: readonly Embedded[]): string {
  const npm = [
    "sbom",
    "--package-lock-only",
    "--omit=dev",
    "--omit=optional",
    "--sbom-format=cyclonedx",
    "--sbom-type=application",
  ];
  const run = spawnSync("npm", npm, { cwd: ROOT, encoding: "utf8" });
  if (run.status !== 0) throw new Error(`npm sbom failed, it takes npm 10: ${run.error ?? run.stderr}`);
  const document = JSON.parse(run.stdout);
  // When and where it was made, and a random number: no two would be the same.
  delete document.serialNumber;
  delete document.metadata.timestamp;
  document.metadata.component.name = "zenith";
  document.components.push(...embedded.map(component));
  document.components.sort((a: Component, b: Component) => a["bom-ref"] < b["bom-ref"] ? -1 : 1);
  return `${JSON.stringify(document, null, 2)}\n`;
}

interface LockFile {
  readonly packages: Readonly<Record<string, { readonly version?: string; readonly integrity?: string }>>;
}

/** As `npm sbom` describes a package, with the checksum that the lock file has of it. */
function component({ name, version }: Embedded): object {
  const ref = `${name}@${version}`;
  const { packages } = JSON.parse(readFileSync(join(ROOT, "package-lock.json"), "utf8")) as LockFile;
  const locked = packages[`node_modules/${name}`];
  const [, hash] = locked?.version === version ? /^sha512-(.+)$/.exec(locked.integrity ?? "") ?? [] : [];
  return {
    "bom-ref": ref,
    type: "library",
    name,
    version,
    scope: "required",
    purl: `pkg:npm/${name.replace("@", "%40")}@${version}`,
    ...(hash === undefined
      ? {}
      : { hashes: [{ alg: "SHA-512", content: Buffer.from(hash, "base64").toString("hex") }] }),
  };
}

/** Writes `<file>.cdx.json`, and `<file>.sha256` with the checksums of both, as sha256sum(1) reads them. */
export function describeBuild(file: string, embedded: readonly Embedded[]): void {
  const bill = `${file}.cdx.json`;
  writeFileSync(bill, billOfMaterials(embedded));
  const lines = [file, bill].map((path) => {
    const sum = createHash("sha256").update(readFileSync(path)).digest("hex");
    return `${sum}  ${basename(path)}\n`;
  });
  writeFileSync(`${file}.sha256`, lines.join(""));
}
