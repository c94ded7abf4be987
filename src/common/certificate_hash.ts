/** How a token names a certificate. */
import { createHash, type X509Certificate } from "node:crypto";

/** Returns the SHA-256 of a certificate, base64url: RFC 8705, 3.1. */
export function certificateHash({ raw }: X509Certificate): string {
  return createHash("sha256").update(raw).digest("base64url");
}
