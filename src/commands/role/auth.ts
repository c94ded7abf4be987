/** How a server that is started on its own learns whom to trust. */
import { hasKeys } from "../../auth/key_files.ts";
import { Verifier } from "../../auth/verifier.ts";
import { errorMessage, ZenithError } from "../../common/errors.ts";
import { formatHostPort, type HostPort, isLoopback } from "../../common/host_port.ts";
import { AuthPaths } from "../../common/paths.ts";
import type { AuditLog } from "../../process/audit_log.ts";
import type { Logger } from "../../process/log.ts";
import { Guard } from "../../protocol/guard.ts";
import { type CommandOption, optionText, type OptionValues } from "../cli/command.ts";

export const AUTH_OPTIONS: readonly CommandOption[] = [
  {
    flags: "--auth <dir>",
    description: "The keys that it trusts, and its token; auth/ in its directory when left out",
  },
  { flags: "--insecure", description: "Let everybody on this machine do everything; on loopback only" },
];

/** Returns the command line's options of {@link AUTH_OPTIONS}, for another process. */
export function passOnAuth(options: OptionValues): string[] {
  const dir = optionText(options, "auth");
  return [...dir === undefined ? [] : ["--auth", dir], ...options["insecure"] === true ? ["--insecure"] : []];
}

export interface Trust {
  readonly guard: Guard;
  readonly auth: AuthPaths;
}

/**
 * @param own where the server keeps its keys when the options name no other place
 * @throws {ZenithError} `not_found` when there are no keys; `invalid_argument` when everybody could
 *   reach an insecure server
 */
export async function openTrust(
  options: OptionValues,
  own: AuthPaths,
  listen: HostPort,
  audit: AuditLog,
  log: Logger,
): Promise<Trust> {
  const dir = optionText(options, "auth");
  const auth = dir === undefined ? own : new AuthPaths(dir);
  if (options["insecure"] === true) {
    if (!isLoopback(listen.host)) {
      throw new ZenithError(
        "invalid_argument",
        `--insecure lets everybody do everything, so ${formatHostPort(listen)} can't be where it listens`,
        { hint: "listen on 127.0.0.1, or leave --insecure out and give it keys with --auth" },
      );
    }
    log.warn("--insecure: whoever reaches this port may read, change and delete everything");
    return { guard: Guard.open(audit), auth };
  }
  if (!hasKeys(auth)) {
    throw new ZenithError("not_found", `there are no keys in ${auth.dir}: nobody could be told apart`, {
      hint: '"zenith start" makes them; --auth names others; --insecure lets everybody in, on loopback only',
    });
  }
  const verifier = await Verifier.open(auth, (error) => {
    log.error(`could not read the keys or the revoked tokens again: ${errorMessage(error)}`, { err: error });
  });
  return { guard: Guard.withTokens(verifier, audit), auth };
}
