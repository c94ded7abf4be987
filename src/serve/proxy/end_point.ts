/**
 * The channel binding `tls-server-end-point` (RFC 5929, section 4.1): a hash of the certificate.
 */
import { createHash, X509Certificate } from "node:crypto";

/** By the signature algorithm's OID in hex. MD5 and SHA-1 are replaced by SHA-256. */
const HASHES: Readonly<Record<string, string>> = {
  "2a864886f70d010104": "sha256", // md5WithRSAEncryption
  "2a864886f70d010105": "sha256", // sha1WithRSAEncryption
  "2a864886f70d01010b": "sha256", // sha256WithRSAEncryption
  "2a864886f70d01010c": "sha384",
  "2a864886f70d01010d": "sha512",
  "2a8648ce3d0401": "sha256", // ecdsa-with-SHA1
  "2a8648ce3d040302": "sha256", // ecdsa-with-SHA256
  "2a8648ce3d040303": "sha384",
  "2a8648ce3d040304": "sha512",
};

/**
 * @param pem a certificate, or several of which the first is the server's
 * @returns undefined when the signature's algorithm has no hash that the RFC defines
 */
export function tlsServerEndPoint(pem: string): Buffer | undefined {
  const der = new X509Certificate(pem).raw;
  const hash = HASHES[signatureOid(der)];
  return hash === undefined ? undefined : createHash(hash).update(der).digest();
}

/**
 * Certificate ::= SEQUENCE { tbsCertificate SEQUENCE, signatureAlgorithm SEQUENCE { OID, … }, … }.
 */
function signatureOid(der: Uint8Array): string {
  const outer = element(der, 0);
  const tbs = element(der, outer.start);
  const algorithm = element(der, tbs.end);
  const oid = element(der, algorithm.start);
  return Buffer.from(der.subarray(oid.start, oid.end)).toString("hex");
}

/** Where the content of a DER element begins and ends. */
function element(der: Uint8Array, at: number): { start: number; end: number } {
  const first = der[at + 1] ?? 0;
  if (first < 0x80) return { start: at + 2, end: at + 2 + first };
  const count = first & 0x7f;
  let length = 0;
  for (let i = 0; i < count; i++) length = length * 256 + (der[at + 2 + i] ?? 0);
  const start = at + 2 + count;
  return { start, end: start + length };
}
