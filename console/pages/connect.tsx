/** Connection strings of a branch, for those who will paste them. */
import { useState } from "preact/hooks";
import { call } from "../api.ts";
import type { Branch } from "../contract.ts";
import { usePoll } from "../poll.ts";
import { Card, Choice, Copy, Problem } from "../ui/parts.tsx";

const RECIPES: readonly (readonly [name: string, recipe: (uri: URL) => string])[] = [
  ["psql", ({ href }) => `psql "${href}"`],
  ["URL", ({ href }) => href],
  ["Prisma", ({ href }) => `DATABASE_URL="${href}"`],
  ["postgres.js", ({ href }) => `import postgres from "postgres";\n\nconst sql = postgres("${href}");`],
  ["JDBC", jdbc],
  [
    "Serverless",
    ({ href, hostname }) =>
      `import { neon, neonConfig } from "@neondatabase/serverless";\n\n` +
      `neonConfig.fetchEndpoint = () => "${location.origin}/sql";\n` +
      `neonConfig.wsProxy = () => "${location.host}/v2"; // for ${hostname}\n` +
      `const sql = neon("${href}");`,
  ],
];

const NAMES = RECIPES.map(([name]) => [name, name] as const);

function jdbc(uri: URL): string {
  const query = new URLSearchParams({
    user: decodeURIComponent(uri.username),
    password: decodeURIComponent(uri.password),
    sslmode: uri.searchParams.get("sslmode") ?? "require",
    channelBinding: uri.searchParams.get("channel_binding") ?? "require",
  });
  return `jdbc:postgresql://${uri.host}${uri.pathname}?${query}`;
}

const KEY_MS = 600_000;

export function Connect({ tenant, branch }: { readonly tenant: string; readonly branch: Branch }) {
  const [chosen, setChosen] = useState(RECIPES[0]![0]);
  const [isShown, setShown] = useState(false);
  const polled = usePoll(
    () => call("computeUri", { tenant, branch: branch.id }, { query: {} }),
    KEY_MS,
    `${tenant} ${branch.id}`,
  );
  const recipe = RECIPES.find(([name]) => name === chosen)![1];
  const text = polled.data === undefined ? undefined : recipe(new URL(polled.data.uri));
  const password = polled.data === undefined ? "" : new URL(polled.data.uri).password;
  const hidden = text === undefined || password === "" ? text : text.replaceAll(password, "••••••••");
  return (
    <Card title="Connect">
      <Choice label="For" value={chosen} options={NAMES} onChange={setChosen} />
      {text !== undefined && (
        <>
          <pre
            class="code"
            tabIndex={0}
            aria-label={`Connection for ${chosen}`}
          >{isShown ? text : hidden}</pre>
          <div class="row">
            <Copy text={text} />
            <button type="button" class="button is-quiet is-small" onClick={() => setShown(!isShown)}>
              {isShown ? "Hide the password" : "Show the password"}
            </button>
          </div>
        </>
      )}
      <Problem error={polled.error} />
    </Card>
  );
}
