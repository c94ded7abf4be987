/** TLS of requests by `fetch`, which each runtime configures in its own way. */
import { readText } from "./read_text.ts";

/** Files in PEM format. */
export interface TlsFiles {
  /** The certificates by which servers are recognized. */
  readonly ca: string;
  /** Our own certificate and its key. */
  readonly own?: { readonly cert: string; readonly key: string } | undefined;
}

/** Deno's way. Bun and Node.js have theirs. */
interface DenoClients {
  createHttpClient(options: { caCerts: string[]; cert?: string; key?: string }): unknown;
}

/** Returns what makes `fetch` use these files. @throws {ZenithError} `io` */
export function fetchTls({ ca, own }: TlsFiles): RequestInit {
  const pem = {
    ca: readText(ca),
    ...(own === undefined ? {} : { cert: readText(own.cert), key: readText(own.key) }),
  };
  const deno = (globalThis as { Deno?: DenoClients }).Deno;
  if (deno === undefined) return { tls: pem } as RequestInit;
  const { ca: caCert, ...pair } = pem;
  return { client: deno.createHttpClient({ caCerts: [caCert], ...pair }) } as RequestInit;
}
