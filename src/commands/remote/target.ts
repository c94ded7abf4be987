/**
 * Which server a command line is for: `--remote`, `--token` and `--ca`, or variables in their
 * place.
 */
import { ZenithError } from "../../common/errors.ts";
import { readText } from "../../common/read_text.ts";
import { isLoopback } from "../../common/host_port.ts";

/** A `zenith serve` elsewhere. */
export interface RemoteTarget {
  readonly url: URL;
  readonly token: string | undefined;
  /** Certificates of authorities, PEM; undefined for those that the runtime knows. */
  readonly ca: string | undefined;
}

/** The options, which may stand anywhere in a command line, and the variables beside them. */
const OPTIONS = { "--remote": "ZENITH_REMOTE", "--token": "ZENITH_TOKEN", "--ca": "ZENITH_CA" } as const;
type Option = keyof typeof OPTIONS;

/**
 * Takes the options out of a command line.
 *
 * @param typed the words after the program's name, of which `--remote` or `$ZENITH_REMOTE` says
 *   that they are for a server elsewhere
 * @throws {ZenithError} `invalid_argument`; `io` when a file can't be read
 */
export function takeTarget(
  typed: readonly string[],
  env: Readonly<Record<string, string | undefined>> = process.env,
): { readonly target: RemoteTarget; readonly argv: string[] } {
  const found: Partial<Record<Option, string>> = {};
  const argv: string[] = [];
  const end = typed.includes("--") ? typed.indexOf("--") : typed.length;
  for (let i = 0; i < typed.length; i++) {
    const word = typed[i]!;
    const [name = "", ...value] = word.split("=");
    if (i >= end || !(name in OPTIONS)) {
      argv.push(word);
      continue;
    }
    const given = value.length > 0 ? value.join("=") : typed[++i];
    if (given === undefined || given === "") {
      throw new ZenithError("invalid_argument", `${name} has no value`);
    }
    found[name as Option] = given;
  }
  const of = (option: Option) => found[option] ?? (env[OPTIONS[option]] || undefined);
  const token = of("--token");
  const ca = of("--ca");
  return {
    target: {
      url: parseUrl(of("--remote") ?? ""),
      token: token?.startsWith("@") === true ? readText(token.slice(1)).trim() : token,
      ca: ca === undefined ? undefined : readText(ca),
    },
    argv,
  };
}

/**
 * @throws {ZenithError} `invalid_argument`, also where the token would go through a network in
 *   clear
 */
function parseUrl(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || !/^https?:$/.test(url.protocol) || url.pathname !== "/" || url.search !== "") {
    throw new ZenithError(
      "invalid_argument",
      `--remote is "${text}": expected https://host or https://host:port`,
    );
  }
  if (url.protocol === "http:" && !isLoopback(url.hostname.replace(/^\[|\]$/g, ""))) {
    throw new ZenithError(
      "invalid_argument",
      `--remote is "${text}": everybody on the way could read the token`,
      {
        hint: "use https://",
      },
    );
  }
  return url;
}
