/** The tokens by which clients prove who they are. A new one is shown once. */
import { useState } from "preact/hooks";
import { call, callAll } from "../api.ts";
import type { Token } from "../contract.ts";
import { formatAgo, formatTime } from "../format.ts";
import { usePoll } from "../poll.ts";
import { Confirm, FormDialog } from "../ui/form_dialog.tsx";
import { Button, Copy, Dialog, Field, Header, Loaded, Select, Table } from "../ui/parts.tsx";

const POLL_MS = 10_000;

type Scope = "admin" | "tenant" | "read";

const SCOPES: readonly (readonly [Scope, string])[] = [
  ["tenant", "tenant: everything in one tenant"],
  ["read", "read: looking, in one tenant"],
  ["admin", "admin: everything"],
];

export function TokensPage() {
  const polled = usePoll(() => callAll("tokenList", {}), POLL_MS, "");
  const [isMaking, setMaking] = useState(false);
  const [revoking, setRevoking] = useState<{ id: string; name: string }>();
  return (
    <>
      <Header title="Tokens" about="A token is shown once, when it is made.">
        <Button kind="primary" onClick={() => setMaking(true)}>New token</Button>
      </Header>
      <Loaded polled={polled} what="tokens">
        {(tokens) =>
          tokens.length === 0 ? <p class="empty">No token has been made here yet.</p> : (
            <Table
              label="Tokens"
              head={
                <>
                  <th scope="col">For</th>
                  <th scope="col">Scope</th>
                  <th scope="col">Tenant</th>
                  <th scope="col">State</th>
                  <th scope="col">Made</th>
                  <th scope="col">Expires</th>
                  <th scope="col">
                    <span class="visually-hidden">Actions</span>
                  </th>
                </>
              }
            >
              {inOrder(tokens).map((token) => (
                <tr key={token.id}>
                  <td>{token.name}</td>
                  <td>{token.scope}</td>
                  <td class="mono">{token.tenant_id?.slice(0, 8) ?? "all"}</td>
                  <td>
                    <span class={`badge is-${token.state}`}>{token.state}</span>
                  </td>
                  <td title={formatTime(Date.parse(token.created_at))}>{formatAgo(token.created_at)}</td>
                  <td>{token.expires_at === null ? "never" : formatAgo(token.expires_at)}</td>
                  <td class="is-number">
                    {token.state === "valid" && !isMachine(token) && (
                      <Button
                        kind="quiet"
                        label={`Revoke ${token.name}`}
                        onClick={() => setRevoking(token)}
                      >
                        Revoke …
                      </Button>
                    )}
                  </td>
                </tr>
              ))}
            </Table>
          )}
      </Loaded>
      {isMaking && <Create onClose={() => setMaking(false)} onMade={polled.reload} />}
      {revoking !== undefined && (
        <Confirm
          title={`Revoke ${revoking.name}`}
          word={revoking.name}
          verb="Revoke"
          onClose={() => setRevoking(undefined)}
          act={async () => {
            await call("tokenRevoke", { token: revoking.id });
            setRevoking(undefined);
            await polled.reload();
          }}
        >
          <p>Whoever uses it is refused from now on.</p>
        </Confirm>
      )}
    </>
  );
}

/** The servers' own. Zenith makes and revokes them by itself. */
function isMachine({ scope }: Token): boolean {
  return !SCOPES.some(([name]) => name === scope);
}

/** Those of people first, what is good before what is not, the newest first. */
function inOrder(tokens: readonly Token[]): Token[] {
  const rank = (token: Token) => Number(isMachine(token)) * 2 + Number(token.state !== "valid");
  return [...tokens].sort((a, b) => rank(a) - rank(b) || (a.created_at < b.created_at ? 1 : -1));
}

function Create({ onClose, onMade }: { readonly onClose: () => void; readonly onMade: () => Promise<void> }) {
  const tenants = usePoll(() => callAll("tenantList", {}), POLL_MS, "");
  const [name, setName] = useState("");
  const [scope, setScope] = useState<Scope>("tenant");
  const [tenant, setTenant] = useState("");
  const [lifetime, setLifetime] = useState("90d");
  const [made, setMade] = useState<string>();
  const all = tenants.data ?? [];
  const of = tenant === "" ? all[0]?.id ?? "" : tenant;
  if (made !== undefined) {
    return (
      <Dialog title="Token made" onClose={onClose}>
        <p>Copy it now. Nobody can show it again.</p>
        <pre class="code" tabIndex={0} aria-label="The token">{made}</pre>
        <div class="dialog-actions">
          <Copy text={made} label="Copy the token" />
          <Button kind="primary" onClick={onClose}>Done</Button>
        </div>
      </Dialog>
    );
  }
  return (
    <FormDialog
      title="New token"
      verb="Make the token"
      onClose={onClose}
      act={async () => {
        const { token } = await call("tokenCreate", {}, {
          body: {
            name: name.trim(),
            scope,
            ...(scope === "admin" ? {} : { tenant_id: of }),
            expires_in: lifetime.trim(),
          },
        });
        setMade(token);
        await onMade();
      }}
    >
      <Field label="Whom it is for" value={name} onInput={setName} autoFocus isRequired placeholder="ci" />
      <Select label="Scope" value={scope} options={SCOPES} onChange={(value) => setScope(value as Scope)} />
      {scope !== "admin" && (
        <Select
          label="Tenant"
          value={of}
          options={all.map(({ id, name }) => [id, name])}
          onChange={setTenant}
        />
      )}
      <Field
        label="Valid for"
        value={lifetime}
        onInput={setLifetime}
        hint="12h, 90d, 1y is 365d"
        isRequired
      />
    </FormDialog>
  );
}
