/**
 * An environment's own certificate authority, and the certificate that it signs for the servers
 * (RFC 5280). Keys are ECDSA on P-256: every TLS library has it, and some refuse Ed25519.
 */
import "reflect-metadata";
import { existsSync, readFileSync } from "node:fs";
import { isIP } from "node:net";
import * as x509 from "@peculiar/x509";
import type { AuthPaths } from "../common/paths.ts";
import { makeAuthDirectories } from "./key_files.ts";
import { writePrivateFile } from "./private_file.ts";

const ALGORITHM = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };

const DAY_MS = 86_400_000;
const CA_DAYS = 20 * 365;
const SERVER_DAYS = 2 * 365;

/** A server's certificate is replaced when this much of its time is left. */
const RENEW_DAYS = 365;

/** The clocks of clients may be behind ours. */
const NOT_BEFORE_MS = 3_600_000;

/**
 * Makes sure that the servers have a certificate for all these names, signed by the environment's
 * own authority. Makes the authority when there is none. A certificate that will do stays.
 *
 * @param names host names and IP addresses
 * @returns whether it made a certificate
 * @throws {ZenithError} `io`, `disk_full`
 */
export async function ensureServerCertificate(paths: AuthPaths, names: readonly string[]): Promise<boolean> {
  if (existsSync(paths.serverCertificate) && existsSync(paths.serverKey)) {
    const certificate = new x509.X509Certificate(readFileSync(paths.serverCertificate, "utf8"));
    const leftMs = certificate.notAfter.getTime() - Date.now();
    const has = new Set(namesOf(certificate));
    if (leftMs > RENEW_DAYS * DAY_MS && names.every((name) => has.has(canonical(name)))) return false;
  }
  makeAuthDirectories(paths);
  const authority = existsSync(paths.caKey) ? await readAuthority(paths) : await makeAuthority(paths);
  const keys = await crypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"]);
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: serialNumber(),
    subject: "CN=Zenith server",
    issuer: authority.certificate.subject,
    ...validFor(SERVER_DAYS),
    signingAlgorithm: ALGORITHM,
    publicKey: keys.publicKey,
    signingKey: authority.key,
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth]),
      new x509.SubjectAlternativeNameExtension(
        [...new Set(names)].map((value) => ({
          type: isIP(value) === 0 ? "dns" as const : "ip" as const,
          value,
        })),
      ),
      await x509.AuthorityKeyIdentifierExtension.create(authority.certificate.publicKey),
    ],
  });
  // A server reads both when either has changed. Until then it has the old pair in memory.
  writePrivateFile(paths.serverKey, await privateKeyPem(keys.privateKey));
  writePrivateFile(paths.serverCertificate, `${certificate.toString("pem")}\n`);
  return true;
}

interface Authority {
  readonly certificate: x509.X509Certificate;
  readonly key: CryptoKey;
}

async function makeAuthority(paths: AuthPaths): Promise<Authority> {
  const keys = await crypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"]);
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: serialNumber(),
    name: "CN=Zenith environment",
    ...validFor(CA_DAYS),
    signingAlgorithm: ALGORITHM,
    keys,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  writePrivateFile(paths.caCertificate, `${certificate.toString("pem")}\n`);
  writePrivateFile(paths.caKey, await privateKeyPem(keys.privateKey));
  return { certificate, key: keys.privateKey };
}

async function readAuthority(paths: AuthPaths): Promise<Authority> {
  const certificate = new x509.X509Certificate(readFileSync(paths.caCertificate, "utf8"));
  const der = x509.PemConverter.decodeFirst(readFileSync(paths.caKey, "utf8"));
  return { certificate, key: await crypto.subtle.importKey("pkcs8", der, ALGORITHM, false, ["sign"]) };
}

function namesOf(certificate: x509.X509Certificate): string[] {
  const extension = certificate.getExtension(x509.SubjectAlternativeNameExtension);
  return extension?.names.items.map(({ value }) => canonical(value)) ?? [];
}

/** An IPv6 address in its shortest form. A certificate shows it in its longest. */
function canonical(name: string): string {
  return isIP(name) === 6 ? new URL(`http://[${name}]`).hostname : name.toLowerCase();
}

function validFor(days: number): { notBefore: Date; notAfter: Date } {
  const nowMs = Date.now();
  return { notBefore: new Date(nowMs - NOT_BEFORE_MS), notAfter: new Date(nowMs + days * DAY_MS) };
}

/** 127 random bits: a positive number that nobody can guess. */
function serialNumber(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[0] = bytes[0]! & 0x7f | 0x40;
  return Buffer.from(bytes).toString("hex");
}

async function privateKeyPem(key: CryptoKey): Promise<string> {
  const der = await crypto.subtle.exportKey("pkcs8", key);
  return `${x509.PemConverter.encode(der, "PRIVATE KEY")}\n`;
}
