/**
 * Remembers the environments that a user has made on this machine, so that the ports of one that is
 * stopped are not given to another.
 *
 * There is a symbolic link to each in `$XDG_STATE_HOME/zenith/environments`, by default below
 * `~/.local/state`. It is only a help for choosing ports: where it can't be written, only ports
 * that are in use count as taken.
 */
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readlinkSync, realpathSync, rmSync, symlinkSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { systemErrorCode, ZenithError } from "../common/errors.ts";
import { parseHostPort } from "../common/host_port.ts";
import { EnvironmentPaths } from "../common/paths.ts";
import { type Environment, loadEnvironment } from "./environment.ts";

type Variables = Readonly<Record<string, string | undefined>>;

function directory(env: Variables): string {
  const state = env["XDG_STATE_HOME"];
  const base = state === undefined || state === "" ? join(homedir(), ".local", "state") : state;
  return join(base, "zenith", "environments");
}

/** Home directories that are missing, read-only or somebody else's. */
const NO_PLACE = ["EACCES", "EPERM", "EROFS", "ENOENT", "ENOTDIR", "ENOSPC", "EDQUOT"];

/** Adds an environment, if it is not there yet. */
export function rememberEnvironment({ paths }: Environment, env: Variables = process.env): void {
  try {
    const root = realpathSync(paths.root);
    const link = join(directory(env), createHash("sha256").update(root).digest("hex").slice(0, 16));
    if (existsSync(link)) return;
    mkdirSync(directory(env), { recursive: true, mode: 0o700 });
    symlinkSync(root, link);
  } catch (error) {
    const code = systemErrorCode(error) ?? "";
    if (code !== "EEXIST" && !NO_PLACE.includes(code)) throw error;
  }
}

/**
 * Returns the environments that this user has made, without the one at `root`. Forgets those that
 * are gone; leaves out those that can't be read.
 */
export function otherEnvironments(root: string, env: Variables = process.env): Environment[] {
  const links = namesIn(directory(env)).map((name) => join(directory(env), name));
  const own = existsSync(root) ? realpathSync(root) : root;
  return links.flatMap((link) => {
    try {
      const other = readlinkSync(link);
      if (other === own) return [];
      if (existsSync(new EnvironmentPaths(other).config)) return [loadEnvironment(other)];
      if (!existsSync(other)) rmSync(link, { force: true });
    } catch (error) {
      if (!(error instanceof ZenithError) && systemErrorCode(error) === undefined) throw error;
    }
    return [];
  });
}

function namesIn(path: string): string[] {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
}

/** The ports that an environment's own page server and safekeepers listen on. */
export function serverPorts({ config }: Environment): number[] {
  const own = "listen" in config.pageserver ? [config.pageserver.listen] : [];
  return [...own, ...(config.safekeepers ?? []).map(({ listen }) => listen)]
    .map((address) => parseHostPort(address).port);
}
