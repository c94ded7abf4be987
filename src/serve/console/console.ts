/**
 * `/console`: the files of the console, from memory. They hold no data and need no token; what the
 * console shows, it asks `/v1` and `/sql` for.
 */
import type { HttpRequest, HttpResponse } from "../http/request.ts";
import { HttpError } from "../http/problem.ts";
import type { Site } from "../http/server.ts";
import { type Asset, INDEX_FILE, readAssets } from "./assets.ts";

const AT = "console";

/** Everything comes from this host, and nothing is inline: what a page is told to run, it won't. */
const SECURITY = {
  "content-security-policy": [
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self' data:",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ].join("; "),
  "referrer-policy": "no-referrer",
  "cross-origin-opener-policy": "same-origin",
};

export class ConsoleSite implements Site {
  readonly at = [AT];
  readonly #root: string | undefined;
  #assets: ReadonlyMap<string, Asset> | undefined;

  /** @param root where the files are, for tests */
  constructor(root?: string) {
    this.#root = root;
  }

  /** @throws {HttpError} `404`, `405`; `501` when the console was not built */
  async handle({ method, path, headers }: HttpRequest): Promise<HttpResponse> {
    assertReads(method);
    // Nobody may ever look: then they need no memory.
    this.#assets ??= readAssets(this.#root);
    if (this.#assets === undefined) {
      throw new HttpError(501, "not_implemented", 'the console is not built here: "npm run build" makes it');
    }
    // The other paths are pages, which the script in the index tells apart.
    const name = path.slice(1).join("/");
    const isFile = path.length === 2 && path[1]!.includes(".");
    const asset = this.#assets.get(isFile ? name : INDEX_FILE);
    if (asset === undefined) throw new HttpError(404, "not_found", `the console has no file ${name}`);
    const isGzipped = /\bgzip\b/.test(String(headers["accept-encoding"] ?? ""));
    return {
      status: 200,
      body: isGzipped ? asset.gzipped : asset.bytes,
      headers: {
        ...SECURITY,
        "content-type": asset.type,
        "vary": "Accept-Encoding",
        // A file's name has a hash of it. The index has none, and names the files of this version.
        "cache-control": isFile && name !== INDEX_FILE ? "public, max-age=31536000, immutable" : "no-cache",
        ...(isGzipped ? { "content-encoding": "gzip" } : {}),
      },
    };
  }
}

/** `/` leads to the console. */
export function rootSite(): Site {
  return {
    at: [""],
    async handle({ method }) {
      assertReads(method);
      return { status: 302, headers: { location: `/${AT}` } };
    },
  };
}

function assertReads(method: string): void {
  if (method === "GET" || method === "HEAD") return;
  throw new HttpError(405, "method_not_allowed", "GET", { allow: "GET, HEAD" });
}
