/** What sslscan, a program of its own, finds out about a port that speaks TLS. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { formatHostPort, type HostPort } from "../../src/common/host_port.ts";
import { findProgram } from "../../src/process/find_program.ts";
import { childOutput } from "./child_output.ts";

/** Skips a test where there is no sslscan. */
export const SCAN = { skip: findProgram("sslscan") === undefined && "there is no sslscan" };

/**
 * Checks that a port offers TLS 1.2 and 1.3 alone, with AEADs and forward secrecy, and has none of the faults that
 * sslscan looks for.
 *
 * @param options such as `--starttls-psql`
 */
export async function assertStrongTls(address: HostPort, ...options: readonly string[]): Promise<void> {
  const scan = await childOutput(
    spawn("sslscan", [...options, "--no-colour", "--xml=-", formatHostPort(address)], {
      stdio: ["ignore", "pipe", "pipe"],
    }),
  );
  const all = (pattern: RegExp) => Array.from(scan.stdout.matchAll(pattern), ([, ...groups]) => groups);
  const versions = all(/<protocol type="(\w+)" version="([\d.]+)" enabled="1"/g).map((words) =>
    words.join(" ")
  );
  assert.deepEqual(versions, ["tls 1.2", "tls 1.3"], scan.stderr);
  const ciphers = all(/<cipher status="\w+" sslversion="TLSv1\.\d" bits="\d+" cipher="([^"]+)"/g).flat();
  assert.ok(ciphers.length >= 6, ciphers.join());
  for (const cipher of ciphers) assert.match(cipher, /^(?:TLS_|ECDHE-)\S*(?:GCM|CHACHA20)/);
  assert.doesNotMatch(scan.stdout, /vulnerable="1"|<compression supported="1"|<renegotiation supported="1"/);
}
