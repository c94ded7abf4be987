/**
 * Pictures of every page of the console, light and dark, wide and narrow: bun scripts/screenshots.ts [directory]
 *
 * They are of a real server with real branches. Look at them.
 */
import { appendFileSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import type { Browser, Page } from "playwright-core";
import { sleep } from "../src/common/sleep.ts";
import { launchBrowser, openTab } from "../tests/harness/browser.ts";
import { consolePages, consoleUrl, logIn } from "../tests/harness/console.ts";
import { Serve } from "../tests/harness/serve.ts";
import { ZenithEnv } from "../tests/harness/zenith_env.ts";

const OUT = process.argv[2] ?? join(import.meta.dirname, "..", "dist", "screenshots");

const WIDE = { width: 1360, height: 820 };
const NARROW = { width: 360, height: 740 };

await using env = await ZenithEnv.create({ safekeepers: 1, start: false });
// Layers as after a day.
appendFileSync(join(env.repoDir, "pageserver.toml"), "checkpoint_distance_bytes = 1048576\n");
await using serve = await Serve.start(env);
const tenant = env.defaultTenant;

async function ask(method: string, path: string, body?: unknown): Promise<Record<string, string>> {
  const response = await fetch(`http://127.0.0.1:${serve.httpPort}/v1${path}`, {
    method,
    headers: { authorization: `Bearer ${env.token}`, "content-type": "application/json" },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  if (!response.ok) throw new Error(await response.text());
  return response.status === 204 ? {} : await response.json();
}

const branches = `/tenants/${tenant}/branches`;

/** A team's day, in half a minute. */
async function populate(): Promise<string> {
  await ask("PATCH", `/tenants/${tenant}`, { name: "shop" });
  await ask("POST", `${branches}/main/compute/start`);
  await serve.psql(
    serve.conninfo("main"),
    "CREATE TABLE orders (id serial PRIMARY KEY, customer text, total numeric(10,2), placed_at timestamptz DEFAULT now());" +
      "INSERT INTO orders (customer, total) SELECT 'customer ' || i % 40, (i * 7919 % 50000) / 100.0 FROM generate_series(1, 2000) i",
  );
  const made = [
    ["staging", "main"],
    ["analytics", "main"],
    ["pr-412-invoices", "staging"],
    ["pr-418-search", "staging"],
    ["pr-418-search-try", "pr-418-search"],
    ["load-test", "main"],
    ["before-migration", "main"],
    ["alice", "main"],
    ["pr-421-refunds", "staging"],
  ] as const;
  for (let i = 0; i < 10; i++) {
    await serve.psql(serve.conninfo("main"), "UPDATE orders SET total = total + 0.01; CHECKPOINT");
  }
  for (const [name, start] of made) {
    await sleep(2_000);
    await serve.psql(
      serve.conninfo("main"),
      "INSERT INTO orders (customer, total) VALUES ('customer 7', 19.90)",
    );
    await ask("POST", branches, { name, start });
    if (name === "staging" || name === "alice") await ask("POST", `${branches}/${name}/compute/start`);
  }
  await serve.psql(
    serve.conninfo("staging"),
    "ALTER TABLE orders ADD COLUMN vat numeric(10,2); UPDATE orders SET total = total + 1 WHERE id < 20;" +
      "DELETE FROM orders WHERE id BETWEEN 100 AND 104; CREATE INDEX ON orders (customer)",
  );
  await ask("PATCH", `${branches}/before-migration`, { protected: true });
  await ask("POST", "/tokens", { name: "ci", scope: "tenant", tenant_id: tenant });
  await ask("POST", "/tokens", { name: "dashboard", scope: "read", tenant_id: tenant, expires_in: "7d" });
  const exported = join(env.dir, "exported");
  await env.zenith("export", "main", "--to", exported);
  await env.zenith("import", exported, "--as", "from-the-old-cluster");
  const { id } = await ask("GET", `${branches}/staging`);
  return id!;
}

async function shoot(page: Page, name: string): Promise<void> {
  await page.screenshot({ path: join(OUT, `${name}.png`) });
  console.log(name);
}

async function shootAll(browser: Browser, theme: "light" | "dark", staging: string): Promise<void> {
  await using tab = await openTab(browser, { colorScheme: theme, viewport: WIDE });
  const { page } = tab;
  await page.goto(consoleUrl(serve));
  await page.getByLabel("Token", { exact: true }).waitFor();
  await shoot(page, `login-${theme}`);
  await logIn(page, serve, env.token);
  for (const { name, path, ready } of consolePages(tenant, staging)) {
    const isCompare = name === "compare";
    await page.goto(consoleUrl(serve, isCompare ? `/t/${tenant}/diff?from=main&to=staging` : path));
    await page.locator(isCompare ? ".side-by-side" : ready).first().waitFor();
    if (name === "sql") {
      await page.locator(".editor").fill(
        "SELECT customer, count(*) AS orders, sum(total) AS spent\nFROM orders\nGROUP BY customer\nORDER BY spent DESC\nLIMIT 12;",
      );
      await page.getByRole("button", { name: "Run" }).click();
      await page.locator(".rows td").first().waitFor();
    }
    if (isCompare) {
      await page.getByRole("button", { name: /^Rows of/ }).first().click();
      await page.locator(".diff-rows td").first().waitFor();
    }
    if (name === "layers") {
      await page.getByLabel("Table, index or file").fill("orders");
      await page.getByRole("button", { name: "Show" }).click();
      await page.getByRole("region", { name: /^Versions/ }).waitFor();
    }
    // Its charts begin now.
    await sleep(name === "branch" ? 9_000 : 600);
    await shoot(page, `${name}-${theme}`);
    if (name === "sql") {
      await page.getByRole("button", { name: "Explain" }).click();
      await page.locator(".plan").waitFor();
      await shoot(page, `plan-${theme}`);
    }
    if (name === "time-line") {
      const canvas = page.locator("canvas");
      const box = (await canvas.boundingBox())!;
      await page.mouse.move(box.x + box.width * 0.55, box.y + 34 + 19);
      await sleep(2_000);
      await shoot(page, `time-line-hover-${theme}`);
      await page.mouse.click(box.x + box.width * 0.55, box.y + 34 + 19);
      await page.locator(".moment").waitFor();
      await sleep(600);
      await shoot(page, `moment-${theme}`);
    }
  }
  await page.setViewportSize(NARROW);
  for (const { name, path, ready } of consolePages(tenant, staging)) {
    await page.goto(consoleUrl(serve, path));
    await page.locator(ready).first().waitFor();
    await sleep(300);
    await shoot(page, `${name}-narrow-${theme}`);
  }
  if (tab.problems.length > 0) throw new Error(tab.problems.join("\n"));
}

mkdirSync(OUT, { recursive: true });
const staging = await populate();
const browser = await launchBrowser();
try {
  for (const theme of ["light", "dark"] as const) await shootAll(browser, theme, staging);
} finally {
  await browser.close();
}
