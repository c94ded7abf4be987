/** Parses where page servers keep their places: `etcd://host:2379,host:2379/prefix`. */
import { ZenithError } from "../common/errors.ts";
import { formatHostPort, parseHostPort } from "../common/host_port.ts";

export interface EtcdLocation {
  /** `http://host:port` of each member. */
  readonly endpoints: readonly string[];
  /** What all keys begin with. Ends with `/`. */
  readonly prefix: string;
  /** A file with the certificates by which members are recognized. Null without TLS. */
  readonly caFile: string | null;
  /** Our own certificate and its key. */
  readonly certFile: string | null;
  readonly keyFile: string | null;
  /** Whom etcd's own authentication knows us as, and the file with the password. Null without. */
  readonly user: { readonly name: string; readonly passwordFile: string } | null;
}

const FORM = /^etcd:\/\/([^/?]+)(\/[^?]*)?(\?.*)?$/;
const PARAMETERS: ReadonlySet<string> = new Set(["ca", "cert", "key", "user", "password_file"]);

/** @throws {ZenithError} `invalid_argument` */
export function parsePlacesUrl(url: string): EtcdLocation {
  const wrong = (why: string): ZenithError =>
    new ZenithError("invalid_argument", `places: ${why}, found "${url}"`, {
      hint: "as in etcd://10.0.0.1:2379,10.0.0.2:2379/zenith?ca=/etc/zenith/etcd.pem",
    });
  const found = FORM.exec(url);
  if (found === null) throw wrong("expected etcd://host:port/prefix");
  const [, hosts, path = "", query = ""] = found;
  const parameters = new URLSearchParams(query);
  for (const name of parameters.keys()) if (!PARAMETERS.has(name)) throw wrong(`there is no "${name}"`);
  const file = (name: string): string | null => parameters.get(name);
  if ((file("cert") === null) !== (file("key") === null)) throw wrong("cert and key come together");
  if (file("cert") !== null && file("ca") === null) throw wrong("cert is for TLS, which needs ca");
  const [user, passwordFile] = [file("user"), file("password_file")];
  if ((user === null) !== (passwordFile === null)) throw wrong("user and password_file come together");
  const scheme = file("ca") === null ? "http" : "https";
  return {
    endpoints: hosts!.split(",").map((text) => `${scheme}://${formatHostPort(parseHostPort(text))}`),
    prefix: `${path.replaceAll(/^\/|\/$/g, "") || "zenith"}/`,
    caFile: file("ca"),
    certFile: file("cert"),
    keyFile: file("key"),
    user: user === null || passwordFile === null ? null : { name: user, passwordFile },
  };
}
