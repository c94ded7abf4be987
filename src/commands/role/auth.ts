/** How a server that is started on its own learns whom to trust. */
import { existsSync } from "node:fs";
import { hasKeys } from "../../auth/key_files.ts";
import { Verifier } from "../../auth/verifier.ts";
import { errorMessage, ZenithError } from "../../common/errors.ts";
import { formatHostPort, type HostPort, isLoopback } from "../../common/host_port.ts";
import { AuthPaths } from "../../common/paths.ts";
import { openAuditLog } from "../../process/audit_log.ts";
import type { Logger } from "../../process/log.ts";
import { Guard, type TlsFiles } from "../../protocol/guard.ts";
import { type CommandOption, optionText, type OptionValues } from "../cli/command.ts";

export const AUTH_OPTIONS: readonly CommandOption[] = [
  {
    flags: "--auth <dir>",
    description: "The keys that it trusts, and its token; auth/ in its directory when left out",
  },
  {
    flags: "--tls-cert <file>",
    description: "Its certificate, in PEM; tls/server.pem in --auth when left out",
  },
  { flags: "--tls-key <file>", description: "The certificate's key; tls/server.key in --auth when left out" },
  {
    flags: "--tls-ca <file>",
    description: "The certificates by which it recognizes other servers; tls/ca.pem",
  },
  { flags: "--insecure", description: "Let everybody on this machine do everything; on loopback only" },
];

/** Returns the command line's options of {@link AUTH_OPTIONS}, for another process. */
export function passOnAuth(options: OptionValues): string[] {
  const given = Object.entries(PASSED_ON).flatMap(([name, flag]) => {
    const value = optionText(options, name);
    return value === undefined ? [] : [flag, value];
  });
  return [...given, ...options["insecure"] === true ? ["--insecure"] : []];
}

const PASSED_ON = { auth: "--auth", tlsCert: "--tls-cert", tlsKey: "--tls-key", tlsCa: "--tls-ca" };

export interface Trust {
  readonly guard: Guard;
  readonly auth: AuthPaths;
  /** The certificates by which the server recognizes others. */
  readonly caFile: string;
}

/**
 * @param own where the server keeps its audit log, and its keys when the options name no other
 *   place
 * @throws {ZenithError} `not_found` when there are no keys; `invalid_argument` when everybody could
 *   reach an insecure server
 */
export async function openTrust(
  options: OptionValues,
  own: { readonly auth: AuthPaths; readonly auditLog: string },
  listen: HostPort,
  log: Logger,
): Promise<Trust> {
  const audit = openAuditLog(own.auditLog);
  const dir = optionText(options, "auth");
  const auth = dir === undefined ? own.auth : new AuthPaths(dir);
  const caFile = optionText(options, "tlsCa") ?? auth.caCertificate;
  if (options["insecure"] === true) {
    if (!isLoopback(listen.host)) {
      throw new ZenithError(
        "invalid_argument",
        `--insecure lets everybody do everything, so ${formatHostPort(listen)} can't be where it listens`,
        { hint: "listen on 127.0.0.1, or leave --insecure out and give it keys with --auth" },
      );
    }
    log.warn("--insecure: whoever reaches this port may read, change and delete everything");
    return { guard: Guard.open(audit), auth, caFile };
  }
  if (!hasKeys(auth)) {
    throw new ZenithError("not_found", `there are no keys in ${auth.dir}: nobody could be told apart`, {
      hint: '"zenith start" makes them; --auth names others; --insecure lets everybody in, on loopback only',
    });
  }
  const verifier = await Verifier.open(auth, (error) => {
    log.error(`could not read the keys or the revoked tokens again: ${errorMessage(error)}`, { err: error });
  });
  const tls = tlsFiles(options, auth, listen, log);
  return { guard: Guard.withTokens(verifier, audit, tls), auth, caFile };
}

/** Undefined when there is no certificate, and all clients are on this machine. */
function tlsFiles(
  options: OptionValues,
  auth: AuthPaths,
  listen: HostPort,
  log: Logger,
): TlsFiles | undefined {
  const cert = optionText(options, "tlsCert") ?? auth.serverCertificate;
  const key = optionText(options, "tlsKey") ?? auth.serverKey;
  if (optionText(options, "tlsCert") !== undefined || existsSync(cert)) {
    return {
      cert,
      key,
      onError: (error) =>
        log.error(`could not read the certificate again: ${errorMessage(error)}`, { err: error }),
    };
  }
  if (isLoopback(listen.host)) return undefined;
  throw new ZenithError(
    "invalid_argument",
    `there is no certificate ${cert}, without which nobody on another machine should reach ${
      formatHostPort(listen)
    }`,
    { hint: '"zenith start" makes one; --tls-cert and --tls-key name another; 127.0.0.1 needs none' },
  );
}
