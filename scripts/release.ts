/**
 * Makes everything that a release has, in dist/release: for each architecture the executable with PostgreSQL
 * inside and its bill of materials, a Debian package and an npm package; the npm package that chooses among
 * them; and the checksums of all.
 *
 *     bun scripts/release.ts [--arch x64 --arch arm64] [--compression 1..9]
 *
 * The same sources make the same bytes, whenever and in whatever directory: times are those of the newest entry
 * of packaging/debian/changelog, or $SOURCE_DATE_EPOCH.
 */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { arch as ownArch } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { makeDeb } from "./release/deb.ts";
import { makeMainPackage, makePlatformPackage } from "./release/npm.ts";
import { releaseInfo, ROOT } from "./release/release_info.ts";

const DIST = join(ROOT, "dist");
const directory = join(DIST, "release");

const { values: options } = parseArgs({
  options: {
    arch: { type: "string", multiple: true, default: ["x64", "arm64"] },
    compression: { type: "string", default: "9" },
  },
});
const compression = Number(options.compression);
const info = releaseInfo();
const { version } = info;

rmSync(directory, { recursive: true, force: true });
mkdirSync(directory, { recursive: true });
for (const arch of options.arch) {
  const build = ["scripts/build.ts", "--with-postgres", "--arch", arch];
  const { status } = spawnSync("bun", build, { cwd: ROOT, stdio: ["ignore", "ignore", "inherit"] });
  if (status !== 0) process.exit(status ?? 1);
  const built = join(DIST, `zenith-with-postgres${arch === ownArch() ? "" : `-${arch}`}`);
  const executable = join(directory, `zenith-${version}-linux-${arch}`);
  const bill = `${executable}.cdx.json`;
  copyFileSync(built, executable);
  chmodSync(executable, 0o755);
  copyFileSync(`${built}.cdx.json`, bill);
  const what = { ...info, arch, executable, bill, directory };
  await makeDeb({ ...what, compression: compression * 2 });
  await makePlatformPackage({ ...what, compression });
}
await makeMainPackage({ ...info, compression, directory }, ["x64", "arm64"]);

const names = readdirSync(directory).sort();
const sums = names.map((name) =>
  `${createHash("sha256").update(readFileSync(join(directory, name))).digest("hex")}  ${name}\n`
);
writeFileSync(join(directory, "SHA256SUMS"), sums.join(""));
process.stdout.write(sums.join(""));
