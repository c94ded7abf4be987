/** Whether the servers can use the certificate that is where theirs should be, and for how long. */
import { X509Certificate } from "node:crypto";
import { existsSync } from "node:fs";
import { readPair } from "../../pgwire/tls.ts";
import type { Environment } from "../environment.ts";
import { type Problem, problemOf } from "./problem.ts";

const DAY_MS = 86_400_000;
const SOON_DAYS = 14;

export function certificateProblems({ paths, config }: Environment, nowMs = Date.now()): Problem[] {
  const { auth } = paths;
  const cert = config.tls?.cert ?? auth.serverCertificate;
  const key = config.tls?.key ?? auth.serverKey;
  // An environment has none of its own before its first start.
  if (config.tls?.cert === undefined && !existsSync(cert)) return [];
  try {
    const { validTo } = new X509Certificate(readPair(cert, key).cert);
    const leftDays = Math.floor((new Date(validTo).getTime() - nowMs) / DAY_MS);
    if (leftDays >= SOON_DAYS) return [];
    return [{
      what: `the certificate ${cert} ${
        leftDays < 0 ? "has expired" : `expires in ${leftDays} days`
      }: ${validTo}`,
      hint: config.tls?.cert === undefined
        ? "the next start makes a new one"
        : "put a new one in its place: the servers read it by themselves",
      down: leftDays < 0,
    }];
  } catch (error) {
    return [problemOf(error, "servers that run keep the one before; a start needs one that works", false)];
  }
}
