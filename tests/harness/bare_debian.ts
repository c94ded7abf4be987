/** A Debian that has nothing but what every Debian has, in a folder: for packages to be installed in. */
import { spawnSync } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { findProgram } from "../../src/process/find_program.ts";

const SUITE = "bookworm";

/** Why there can be none here; false when there can. */
export function lacksBareDebian(): string | false {
  if (process.getuid?.() !== 0) return "only root can make a Debian in a folder";
  if (spawnSync("unshare", ["--mount", "true"]).status !== 0) {
    return "this machine allows no mount namespaces";
  }
  return findProgram("debootstrap") === undefined ? "there is no debootstrap here" : false;
}

/**
 * Processes in it see this machine's network and processes, its own files, and its own `/proc`, `/dev/shm` and
 * `/run`: those of a namespace that each command makes.
 */
const INSIDE = `
  mount -t proc proc "$1/proc" && mount -t tmpfs none "$1/dev/shm" && mount -t tmpfs none "$1/run" || exit 125
  root=$1; shift; exec chroot "$root" "$@"`;

export class BareDebian implements Disposable {
  readonly root: string;

  private constructor(root: string) {
    this.root = root;
  }

  /** A copy of the one that is kept in the user's cache, where it is made if it isn't there. */
  static create(): BareDebian {
    const cache = join(process.env["XDG_CACHE_HOME"] || join(homedir(), ".cache"), "zenith");
    const kept = join(cache, `debian-${SUITE}`);
    if (!existsSync(kept)) {
      mkdirSync(cache, { recursive: true });
      const unfinished = mkdtempSync(`${kept}-`);
      chmodSync(unfinished, 0o755);
      run("debootstrap", "--variant=minbase", SUITE, unfinished);
      renameSync(unfinished, kept);
    }
    const root = mkdtempSync(join(tmpdir(), "zenith-debian-"));
    run("cp", "-a", "--reflink=auto", `${kept}/.`, root);
    return new BareDebian(root);
  }

  /** Runs a command in it as root. @returns all that it has printed @throws {Error} with that when it fails */
  run(...command: readonly string[]): string {
    return run("unshare", "--mount", "sh", "-c", INSIDE, "sh", this.root, ...command);
  }

  [Symbol.dispose](): void {
    rmSync(this.root, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
  }
}

function run(file: string, ...args: readonly string[]): string {
  // Where the command line of a test has its environment is nothing to those in here.
  const env = { PATH: "/usr/sbin:/usr/bin:/sbin:/bin", DEBIAN_FRONTEND: "noninteractive", LC_ALL: "C.UTF-8" };
  const { status, stdout, stderr, error } = spawnSync(file, args, { encoding: "utf8", env });
  if (status === 0) return stdout + stderr;
  throw new Error(`${file} ${args.slice(4).join(" ")}: ${error?.message ?? status}\n${stdout}${stderr}`);
}
