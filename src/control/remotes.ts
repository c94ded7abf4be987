/** Page servers of other environments, by names of this one's. */
import { copyFileSync, mkdirSync, rmSync } from "node:fs";
import { dirname } from "node:path";
import { readTokenFile, writePrivateFile } from "../auth/private_file.ts";
import { ioError, ZenithError } from "../common/errors.ts";
import type { ServerAddress } from "../protocol/connect.ts";
import { type Environment, parsePageServerUrl, saveEnvironment } from "./environment.ts";

const NAME = /^[a-z0-9][a-z0-9_-]{0,62}$/;

export interface Remote {
  readonly name: string;
  readonly url: string;
}

export function listRemotes({ config }: Environment): Remote[] {
  return Object.entries(config.remotes ?? {}).map(([name, { url }]) => ({ name, url }));
}

/**
 * Adds a page server.
 *
 * @param tokenFile a token of its environment, which is copied; undefined for none
 * @param caFile the certificate of its authority, which is copied
 * @throws {ZenithError} `invalid_argument`, `already_exists`, `io`
 */
export function addRemote(
  environment: Environment,
  name: string,
  url: string,
  { tokenFile, caFile }: { readonly tokenFile: string | undefined; readonly caFile: string | undefined },
): void {
  const { paths, config } = environment;
  if (!NAME.test(name)) {
    throw new ZenithError("invalid_argument", `"${name}" is no name of a remote`, {
      hint: "use small letters, digits, - and _",
    });
  }
  parsePageServerUrl(url);
  if (config.remotes?.[name] !== undefined) {
    throw new ZenithError("already_exists", `there is a remote ${name} already`, {
      hint: `"zenith remote remove ${name}" removes it`,
    });
  }
  const token = tokenFile === undefined ? undefined : readTokenFile(tokenFile);
  if (tokenFile !== undefined && token === undefined) {
    throw new ZenithError("not_found", `there is no token in ${tokenFile}`);
  }
  const files = paths.auth.remote(name);
  try {
    mkdirSync(dirname(files.token), { recursive: true, mode: 0o700 });
    if (caFile !== undefined) copyFileSync(caFile, files.caCertificate);
  } catch (error) {
    throw ioError("copy", caFile ?? files.token, error);
  }
  if (token !== undefined) writePrivateFile(files.token, `${token}\n`);
  saveEnvironment({ paths, config: { ...config, remotes: { ...config.remotes, [name]: { url } } } });
}

/** @throws {ZenithError} `not_found`, `io` */
export function removeRemote(environment: Environment, name: string): void {
  const { paths, config } = environment;
  find(environment, name);
  const { [name]: _gone, ...remotes } = config.remotes ?? {};
  saveEnvironment({ paths, config: { ...config, remotes } });
  const files = paths.auth.remote(name);
  for (const file of [files.token, files.caCertificate]) rmSync(file, { force: true });
}

/** Where a remote is, and who we are to it. @throws {ZenithError} `not_found` */
export function remoteAddress(environment: Environment, name: string): ServerAddress {
  const [first, ...others] = parsePageServerUrl(find(environment, name).url);
  const { token, caCertificate } = environment.paths.auth.remote(name);
  return { ...first!, others, credentials: { tokenFile: token, caFile: caCertificate } };
}

function find(environment: Environment, name: string): Remote {
  const remotes = listRemotes(environment);
  const found = remotes.find((remote) => remote.name === name);
  if (found !== undefined) return found;
  const names = remotes.map((remote) => remote.name).join(", ");
  throw new ZenithError("not_found", `there is no remote ${name}`, {
    hint: names === "" ? '"zenith remote add" adds one' : `there are ${names}`,
  });
}
