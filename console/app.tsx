/** What is around every page: who is there, where one can go, whether the server answers. */
import { useEffect, useRef, useState } from "preact/hooks";
import { access, call, callAll, connection, leave, resume } from "./api.ts";
import type { ListedTenant, Session } from "./contract.ts";
import { formatSpan } from "./format.ts";
import { AuditPage } from "./pages/audit.tsx";
import { BranchPage } from "./pages/branch.tsx";
import { DiffPage } from "./pages/diff.tsx";
import { HealthPage } from "./pages/health.tsx";
import { LayersPage } from "./pages/layers.tsx";
import { LoginForm, LoginPage, Logo } from "./pages/login.tsx";
import { MetricsPage } from "./pages/metrics.tsx";
import { OperationsPage } from "./pages/operations.tsx";
import { SqlPage } from "./pages/sql.tsx";
import { TenantsPage } from "./pages/tenants.tsx";
import { TimeLinePage } from "./pages/time_line_page.tsx";
import { TransfersPage } from "./pages/transfers.tsx";
import { TokensPage } from "./pages/tokens.tsx";
import { usePoll } from "./poll.ts";
import { go, type Page, place, to } from "./router.ts";
import { useStore } from "./store.ts";
import { chooseTheme, THEMES, useTheme } from "./theme.ts";
import { Dialog, Header, Problem } from "./ui/parts.tsx";

const PROBE_MS = 1_500;
const TENANTS_MS = 30_000;
const STATUS_MS = 15_000;

export function App() {
  const who = useStore(access);
  const isAway = useStore(connection) === "away";
  useEffect(() => void resume(), []);
  // Whether it is there again, on a page that asks for nothing by itself too.
  useEffect(() => {
    if (!isAway) return;
    const probe = () => access.get().kind === "unknown" ? resume() : call("session").then(() => {}, () => {});
    const timer = setInterval(() => void probe(), PROBE_MS);
    return () => clearInterval(timer);
  }, [isAway]);
  if (who.kind === "unknown") {
    return isAway ? <Away /> : null;
  }
  if (who.kind === "none") {
    return (
      <>
        {isAway && <Away />}
        <LoginPage />
      </>
    );
  }
  return (
    <>
      {isAway && <Away />}
      <Shell session={who.session} />
      {who.kind === "ended" && (
        <Dialog title="Your session has ended" onClose={leave}>
          <LoginForm why={who.why} />
        </Dialog>
      )}
    </>
  );
}

function Away() {
  return (
    <div class="away" role="alert">
      No answer from the server. What you see may be old; it is asked again until it answers.
    </div>
  );
}

function Shell({ session }: { readonly session: Session }) {
  const { page } = useStore(place);
  const isOperator = session.scope === "admin";
  const tenants = usePoll(
    async (): Promise<ListedTenant[]> => {
      if (isOperator) return await callAll("tenantList", {});
      if (session.tenant_id === null) return [];
      const { id, name, created_at } = await call("tenantGet", { tenant: session.tenant_id });
      return [{ id, name, created_at }];
    },
    TENANTS_MS,
    session.name + session.scope + session.tenant_id,
  );
  const all = tenants.data;
  const [last, setLast] = useState<string>();
  const asked = "tenant" in page ? page.tenant : undefined;
  useEffect(() => {
    if (asked !== undefined) setLast(asked);
  }, [asked]);
  const tenant = asked ?? last ?? all?.[0]?.id;
  useEffect(() => {
    if (page.at === "home" && tenant !== undefined) go(to.timeLine(tenant), "replace");
  }, [page.at, tenant]);
  // A narrow window shows some of the items; where one is should be among them.
  const items = useRef<HTMLUListElement>(null);
  useEffect(() => {
    const list = items.current!;
    const here = list.querySelector("[aria-current]")?.getBoundingClientRect();
    if (here === undefined) return;
    const { left, width } = list.getBoundingClientRect();
    list.scrollBy({ left: here.left + here.width / 2 - left - width / 2 });
  }, [page.at, tenant, isOperator]);
  return (
    <div class="shell">
      <a class="skip" href="#main">Skip to the page</a>
      <nav class="side" aria-label="Console">
        <a href={to.home()} class="home" aria-label="Zenith: home">
          <Logo />
        </a>
        {all !== undefined && all.length > 1 && tenant !== undefined && (
          <select
            class="tenant"
            aria-label="Tenant"
            value={tenant}
            onChange={(event) => go(to.timeLine(event.currentTarget.value))}
          >
            {all.map(({ id, name }) => (
              <option key={id} value={id}>{name === id ? id.slice(0, 8) : name}</option>
            ))}
          </select>
        )}
        <ul ref={items}>
          {tenant !== undefined && (
            <>
              <Item
                href={to.timeLine(tenant)}
                text="Time line"
                isHere={page.at === "time_line" || page.at === "branch" || page.at === "layers"}
              />
              <Item href={to.sql(tenant)} text="SQL" isHere={page.at === "sql"} />
              <Item href={to.diff(tenant)} text="Compare" isHere={page.at === "diff"} />
              <Item href={to.operations(tenant)} text="Operations" isHere={page.at === "operations"} />
            </>
          )}
          {isOperator && (
            <>
              <Item href={to.tenants()} text="Tenants" isHere={page.at === "tenants"} beginsGroup />
              <Item href={to.tokens()} text="Tokens" isHere={page.at === "tokens"} />
              <Item href={to.transfers()} text="Transfers" isHere={page.at === "transfers"} />
              <Item href={to.audit()} text="Audit log" isHere={page.at === "audit"} />
              <Item href={to.metrics()} text="Metrics" isHere={page.at === "metrics"} />
              <HealthItem isHere={page.at === "health"} />
            </>
          )}
        </ul>
        <div class="side-end">
          <ThemeChoice />
          <Who session={session} />
        </div>
      </nav>
      <main id="main" tabIndex={-1}>
        <Problem error={tenants.error} />
        <PageOf page={page} />
      </main>
    </div>
  );
}

function Item({ href, text, isHere, beginsGroup = false }: {
  readonly href: string;
  readonly text: string;
  readonly isHere: boolean;
  readonly beginsGroup?: boolean;
}) {
  return (
    <li class={beginsGroup ? "begins-group" : undefined}>
      <a href={href} aria-current={isHere ? "page" : undefined}>{text}</a>
    </li>
  );
}

function HealthItem({ isHere }: { readonly isHere: boolean }) {
  const { data } = usePoll(() => call("status"), STATUS_MS, "");
  const down = data === undefined
    ? 0
    : data.servers.filter(({ running }) => !running).length + data.problems.length;
  return (
    <li>
      <a href={to.health()} aria-current={isHere ? "page" : undefined}>
        Health
        {down > 0 && <span class="count" aria-label={`${down} down`}>{down}</span>}
      </a>
    </li>
  );
}

function Who({ session }: { readonly session: Session }) {
  const { name, scope, expires_at } = session;
  // Without tokens there is nobody to be, and nothing to leave.
  if (name === "anybody") return <p class="who">Open to everybody here</p>;
  const left = expires_at === null ? undefined : Date.parse(expires_at) - Date.now();
  return (
    <div class="who">
      <p>
        <strong>{name}</strong> {scope}
        {left !== undefined && left > 0 && <span class="hint">for {formatSpan(left)} more</span>}
      </p>
      <button type="button" class="button is-quiet is-small" onClick={leave}>Log out</button>
    </div>
  );
}

function ThemeChoice() {
  const theme = useTheme();
  return (
    <div class="themes" role="group" aria-label="Theme">
      {THEMES.map((name) => (
        <button
          key={name}
          type="button"
          aria-pressed={name === theme}
          onClick={() => chooseTheme(name)}
        >
          {name}
        </button>
      ))}
    </div>
  );
}

const TITLES: Readonly<Record<Page["at"], string>> = {
  home: "Zenith",
  time_line: "Time line",
  branch: "Branch",
  layers: "Layers",
  sql: "SQL",
  diff: "Compare",
  operations: "Operations",
  health: "Health",
  tenants: "Tenants",
  tokens: "Tokens",
  transfers: "Transfers",
  audit: "Audit log",
  metrics: "Metrics",
  lost: "Not found",
};

function PageOf({ page }: { readonly page: Page }) {
  useEffect(() => {
    document.title = page.at === "home" ? "Zenith" : `${TITLES[page.at]} · Zenith`;
  }, [page.at]);
  switch (page.at) {
    case "home":
      return null;
    case "time_line":
      return <TimeLinePage key={page.tenant} tenant={page.tenant} />;
    case "branch":
      return <BranchPage key={page.branch} tenant={page.tenant} id={page.branch} />;
    case "layers":
      return <LayersPage key={page.branch} tenant={page.tenant} id={page.branch} />;
    case "sql":
      return <SqlPage key={page.tenant} tenant={page.tenant} />;
    case "diff":
      return <DiffPage key={page.tenant} tenant={page.tenant} />;
    case "operations":
      return <OperationsPage key={page.tenant} tenant={page.tenant} />;
    case "health":
      return <HealthPage />;
    case "tenants":
      return <TenantsPage />;
    case "tokens":
      return <TokensPage />;
    case "transfers":
      return <TransfersPage />;
    case "audit":
      return <AuditPage />;
    case "metrics":
      return <MetricsPage />;
    case "lost":
      return (
        <Header
          title="Not found"
          about={<a href={to.home()}>There is no such page. Go to the first one.</a>}
        />
      );
  }
}
