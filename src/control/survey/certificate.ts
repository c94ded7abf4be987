/** Whether the servers can use the certificate that is where theirs should be, and for how long. */
import { X509Certificate } from "node:crypto";
import { existsSync } from "node:fs";
import { readPair } from "../../pgwire/tls.ts";
import type { Environment } from "../environment.ts";
import { type Problem, problemOf } from "./problem.ts";

const DAY_MS = 86_400_000;
const SOON_DAYS = 14;

export function certificateProblems(environment: Environment, nowMs = Date.now()): Problem[] {
  try {
    const expiresMs = readExpiryMs(environment);
    if (expiresMs === undefined) return [];
    const leftDays = Math.floor((expiresMs - nowMs) / DAY_MS);
    if (leftDays >= SOON_DAYS) return [];
    const { cert, isOwn } = filesOf(environment);
    const when = new Date(expiresMs).toISOString();
    return [{
      what: `the certificate ${cert} ${
        leftDays < 0 ? "has expired" : `expires in ${leftDays} days`
      }, at ${when}`,
      hint: isOwn
        ? "the next start makes a new one"
        : "put a new one in its place: the servers read it by themselves",
      down: leftDays < 0,
    }];
  } catch (error) {
    return [problemOf(error, "servers that run keep the one before; a start needs one that works", false)];
  }
}

/**
 * When the certificate expires, in ms since 1970; undefined when there is none, or none that can be
 * used.
 */
export function certificateExpiryMs(environment: Environment): number | undefined {
  try {
    return readExpiryMs(environment);
  } catch {
    return undefined;
  }
}

function readExpiryMs(environment: Environment): number | undefined {
  const { cert, key, isOwn } = filesOf(environment);
  // An environment has none of its own before its first start.
  if (isOwn && !existsSync(cert)) return undefined;
  return new Date(new X509Certificate(readPair(cert, key).cert).validTo).getTime();
}

function filesOf({ paths, config }: Environment): { cert: string; key: string; isOwn: boolean } {
  const { auth } = paths;
  return {
    cert: config.tls?.cert ?? auth.serverCertificate,
    key: config.tls?.key ?? auth.serverKey,
    isOwn: config.tls?.cert === undefined,
  };
}
