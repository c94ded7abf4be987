/** Pages by path, below `/console`. */
import { createStore } from "./store.ts";

const BASE = "/console";

/** Pages of the installation, for its operator. */
const INSTALLATION = ["health", "tenants", "tokens", "transfers", "audit", "metrics"] as const;

type Installation = (typeof INSTALLATION)[number];

export type Page =
  | { readonly at: Installation | "home" | "lost" }
  | { readonly at: "time_line" | "operations" | "sql" | "diff"; readonly tenant: string }
  | { readonly at: "branch" | "layers"; readonly tenant: string; readonly branch: string };

export interface Place {
  readonly page: Page;
  readonly query: URLSearchParams;
}

export function readPath(path: string): Page {
  const [first = "", tenant = "", third = "", fourth = "", fifth = ""] = path.slice(BASE.length).split("/")
    .slice(1).map(
      decodeURIComponent,
    );
  if (first === "") return { at: "home" };
  const page = INSTALLATION.find((name) => name === first);
  if (page !== undefined) return { at: page };
  if (first !== "t" || tenant === "") return { at: "lost" };
  if (third === "") return { at: "time_line", tenant };
  if (third === "operations" || third === "sql" || third === "diff") return { at: third, tenant };
  if (third === "branches" && fourth !== "") {
    if (fifth === "") return { at: "branch", tenant, branch: fourth };
    if (fifth === "layers") return { at: "layers", tenant, branch: fourth };
  }
  return { at: "lost" };
}

function here(): Place {
  return { page: readPath(location.pathname), query: new URLSearchParams(location.search) };
}

export const place = createStore<Place>(here());

globalThis.addEventListener("popstate", () => place.set(here()));

export function go(href: string, how: "push" | "replace" = "push"): void {
  history[how === "push" ? "pushState" : "replaceState"](null, "", href);
  place.set(here());
  if (how === "replace") return;
  document.querySelector("main")?.focus({ preventScroll: true });
  scrollTo(0, 0);
}

/** Links lead on without loading the page again. */
document.addEventListener("click", (event) => {
  if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey) {
    return;
  }
  const link = event.target instanceof Element ? event.target.closest("a") : null;
  if (link === null || link.target !== "" || link.origin !== location.origin) return;
  if (!link.pathname.startsWith(BASE) || link.hasAttribute("download")) return;
  event.preventDefault();
  if (link.href !== location.href) go(link.href);
});

const of = encodeURIComponent;

export const to = {
  home: () => BASE,
  health: () => `${BASE}/health`,
  tenants: () => `${BASE}/tenants`,
  tokens: () => `${BASE}/tokens`,
  transfers: () => `${BASE}/transfers`,
  audit: () => `${BASE}/audit`,
  metrics: () => `${BASE}/metrics`,
  timeLine: (tenant: string) => `${BASE}/t/${of(tenant)}`,
  operations: (tenant: string) => `${BASE}/t/${of(tenant)}/operations`,
  branch: (tenant: string, id: string) => `${BASE}/t/${of(tenant)}/branches/${of(id)}`,
  layers: (tenant: string, id: string) => `${BASE}/t/${of(tenant)}/branches/${of(id)}/layers`,
  /** @param from @param to points, such as `main@-1h` */
  diff: (tenant: string, from?: string, to?: string, database?: string) => {
    const given = Object.entries({ from, to, database }).filter((entry): entry is [string, string] =>
      entry[1] !== undefined
    );
    const query = new URLSearchParams(given).toString();
    return `${BASE}/t/${of(tenant)}/diff${query === "" ? "" : `?${query}`}`;
  },
  /** @param at RFC 3339, or an LSN */
  sql: (tenant: string, branch?: string, at?: string) => {
    const query = new URLSearchParams({
      ...(branch === undefined ? {} : { branch }),
      ...(at === undefined ? {} : { at }),
    }).toString();
    return `${BASE}/t/${of(tenant)}/sql${query === "" ? "" : `?${query}`}`;
  },
};
