/** Masks the passwords in connection strings that are logged, reported or shown. */

const MASK = "***";

/**
 * `scheme://user:password@host`. Matches up to the last @, since a password may be written
 * unencoded.
 */
const URL_PASSWORD = /([a-z][a-z0-9+.-]*:\/\/[^\s:/?#@[]*:)\S*@/gi;

/** libpq's secret settings, in a URL's query or as a keyword. */
const SECRET = "password|sslpassword|scram_client_key|scram_server_key|oauth_client_secret";

/** A setting in a URL's query. Its value ends at the next parameter. */
const QUERY_PASSWORD = new RegExp(`([?&](?:${SECRET})=)[^\\s&#]*`, "gi");

/**
 * `password=…`: bare, in single quotes, or in the doubled quotes of a setting inside a setting. A
 * quote that is not closed extends to the end.
 */
const KEYWORD_PASSWORD = new RegExp(
  `(?<![?&\\w])((?:${SECRET})\\s*=\\s*)` +
    String.raw`(?:''(?:[^'\\]|\\[\s\S])*''|'(?:[^'\\]|\\[\s\S])*(?:'|$)|(?:[^\s\\]|\\[\s\S])+)`,
  "gi",
);

/**
 * Replaces each password in `text` with `***`. The text is a connection string or a message that
 * contains some. Where it is unclear how far a password extends, this masks more rather than less.
 */
export function redactPasswords(text: string): string {
  if (!/:\/\/|=/.test(text)) return text;
  return text
    .replace(URL_PASSWORD, `$1${MASK}@`)
    .replace(QUERY_PASSWORD, `$1${MASK}`)
    .replace(KEYWORD_PASSWORD, `$1${MASK}`);
}
