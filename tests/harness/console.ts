/** The console of a test's own environment: its pages, and how to get into it. */
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import type { Page } from "playwright-core";
import type { Serve } from "./serve.ts";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

export interface ConsolePage {
  readonly name: string;
  /** Below `/console`. */
  readonly path: string;
  /** What is there once its data are. */
  readonly ready: string;
}

/** All pages that have an address. @param branch the id of a branch */
export function consolePages(tenant: string, branch: string): ConsolePage[] {
  return [
    { name: "time-line", path: `/t/${tenant}`, ready: ".tl-label" },
    { name: "branch", path: `/t/${tenant}/branches/${branch}`, ready: "text=Danger zone" },
    {
      name: "layers",
      path: `/t/${tenant}/branches/${branch}/layers`,
      ready: "text=What a read goes through",
    },
    { name: "sql", path: `/t/${tenant}/sql`, ready: ".editor" },
    { name: "compare", path: `/t/${tenant}/diff?from=main&to=main`, ready: "text=The schemas are the same" },
    { name: "operations", path: `/t/${tenant}/operations`, ready: "td" },
    { name: "transfers", path: "/transfers", ready: "text=Object store" },
    { name: "audit", path: "/audit", ready: "td" },
    { name: "metrics", path: "/metrics", ready: "td" },
    { name: "health", path: "/health", ready: ".servers li" },
    { name: "tenants", path: "/tenants", ready: "td" },
    { name: "tokens", path: "/tokens", ready: "td" },
  ];
}

export function consoleUrl(serve: Serve, path = ""): string {
  return `http://127.0.0.1:${serve.httpPort}/console${path}`;
}

export async function logIn(page: Page, serve: Serve, token: string): Promise<void> {
  await page.goto(consoleUrl(serve));
  await page.getByLabel("Token", { exact: true }).fill(token);
  await page.getByRole("button", { name: "Log in" }).click();
  await page.getByRole("navigation").waitFor();
}

/** What is wrong with a page for those who can't see it or use no mouse, in axe-core's words. */
export async function accessibilityProblems(page: Page): Promise<string[]> {
  // As an expression, which the page's content security policy is not for.
  await page.evaluate(AXE);
  const found = await page.evaluate(
    "axe.run(document, { resultTypes: ['violations'] }).then(({ violations }) => " +
      "violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html, failureSummary }) => html + ' ' + failureSummary).join('; ')}`))",
  );
  return found as string[];
}

/** How far the page is wider than its window, in pixels: then it scrolls sideways. */
export async function overflow(page: Page): Promise<number> {
  return Number(await page.evaluate("document.documentElement.scrollWidth - innerWidth"));
}
