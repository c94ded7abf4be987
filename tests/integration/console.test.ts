/** The console in a real browser, on a real server: a person's way through it. */
import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { promisify } from "node:util";
import type { Browser, Page } from "playwright-core";
import { generateTenantId } from "../../src/common/id.ts";
import { sleep } from "../../src/common/sleep.ts";
import { createToken, revokeToken } from "../../src/control/tokens.ts";
import { launchBrowser, noBrowser, openTab, type Tab } from "../harness/browser.ts";
import { zenithCommand } from "../harness/cli.ts";
import { accessibilityProblems, consolePages, consoleUrl, logIn, overflow } from "../harness/console.ts";
import { Serve } from "../harness/serve.ts";
import { until, ZenithEnv } from "../harness/zenith_env.ts";

let env: ZenithEnv;
let serve: Serve;
let browser: Browser;
let tenant: string;

before(async () => {
  if (noBrowser) return;
  env = await ZenithEnv.create({ safekeepers: 1, start: false });
  serve = await Serve.start(env);
  tenant = env.defaultTenant;
  browser = await launchBrowser();
  const started = await fetch(
    `http://127.0.0.1:${serve.httpPort}/v1/tenants/${tenant}/branches/main/compute/start`,
    {
      method: "POST",
      headers: { authorization: `Bearer ${env.token}` },
    },
  );
  assert.equal(started.status, 201);
});
after(async () => {
  await browser?.close();
  await serve?.[Symbol.asyncDispose]();
  await env?.[Symbol.asyncDispose]();
});

/** Nothing went wrong in a page that the test has not asked for, and it spoke to its own host alone. */
function assertClean({ problems, hosts }: Tab): void {
  assert.deepEqual(problems, []);
  assert.deepEqual([...hosts], [`127.0.0.1:${serve.httpPort}`]);
}

async function runSql(page: Page, statement: string): Promise<void> {
  await page.getByLabel("Statement", { exact: true }).fill(statement);
  await page.keyboard.press("Control+Enter");
}

const cell = (page: Page) => page.locator(".rows td").first();

describe("the console", { skip: noBrowser }, () => {
  test("takes somebody from the first page to yesterday's data, on a branch, and away with it again", async () => {
    await serve.psql(serve.conninfo("main"), "CREATE TABLE t AS SELECT generate_series(1, 7) AS a");
    // To the millisecond, as a person would copy it; the commits below are later.
    const moment = await serve.psql(
      serve.conninfo("main"),
      "SELECT pg_sleep(0.01); SELECT clock_timestamp()",
    );
    await serve.psql(serve.conninfo("main"), "SELECT pg_sleep(0.01); DELETE FROM t WHERE a > 2");
    const at = new Date(moment.trim());

    await using tab = await openTab(browser, { acceptDownloads: true });
    const { page } = tab;
    await page.goto(`http://127.0.0.1:${serve.httpPort}/`);
    await page.getByLabel("Token", { exact: true }).fill("not a token");
    await page.getByRole("button", { name: "Log in" }).click();
    await page.getByRole("alert").waitFor();
    await logIn(page, serve, env.token);
    await page.getByRole("link", { name: "main" }).waitFor();

    // By the keyboard: the newest moment of the first branch, then that of before the accident.
    await page.locator("canvas").focus();
    await page.keyboard.press("ArrowLeft");
    await page.keyboard.press("Enter");
    const local = new Date(at.getTime() - at.getTimezoneOffset() * 60_000).toISOString().slice(0, -1);
    await page.getByLabel("Moment", { exact: true }).fill(local);
    await page.getByText(/^LSN 0\//).waitFor();
    assert.match(await page.locator(".copyable code").innerText(), new RegExp(`main@${at.toISOString()}`));
    await page.getByRole("button", { name: "Query this moment" }).click();
    await runSql(page, "SELECT count(*) FROM t");
    await cell(page).waitFor();
    assert.equal(await cell(page).innerText(), "7");
    await runSql(page, "INSERT INTO t VALUES (8)");
    await page.getByText("cannot execute INSERT in a read-only transaction").waitFor();
    await page.getByRole("button", { name: "Back to now" }).click();
    await runSql(page, "SELECT count(*) FROM t");
    await page.getByText("cannot execute").waitFor({ state: "detached" });
    assert.equal(await cell(page).innerText(), "2");

    await page.goto(consoleUrl(serve, `/t/${tenant}`));
    await page.getByRole("link", { name: "main" }).waitFor();
    await page.locator("canvas").focus();
    await page.keyboard.press("ArrowLeft");
    await page.keyboard.press("Enter");
    await page.getByLabel("Moment", { exact: true }).fill(local);
    await page.getByLabel("New branch from here").fill("before/accident");
    await page.getByRole("button", { name: "Create branch" }).click();
    await page.getByRole("heading", { name: "before/accident" }).waitFor();
    await page.getByText("Asleep: the next client wakes it").waitFor();
    await page.getByRole("button", { name: "Start", exact: true }).click();
    await page.getByText("Awake", { exact: true }).waitFor();
    assert.ok(serve.isAwake("before/accident"));

    // Its connection string is good.
    await page.getByRole("button", { name: "Show the password" }).click();
    const uri = /postgresql:\/\/[^"]+/.exec(await page.locator("pre.code").innerText())![0];
    const url = new URL(uri);
    assert.equal(
      await serve.psql(serve.conninfo(url.hostname.split(".")[0]!), "SELECT count(*) FROM t", url.password),
      "7",
    );
    await page.getByRole("link", { name: "Query" }).click();
    await runSql(page, `SELECT a, NULL AS b, 'x,"y"' AS c FROM t WHERE a > 6`);
    await cell(page).waitFor();
    const download = page.waitForEvent("download");
    await page.getByRole("button", { name: "Export CSV" }).click();
    const chunks: Uint8Array[] = [];
    for await (const chunk of await (await download).createReadStream()) chunks.push(chunk as Uint8Array);
    assert.equal(Buffer.concat(chunks).toString(), 'a,b,c\r\n7,,"x,""y"""\r\n');

    // An error stands where it is.
    await runSql(page, "SELECT 1,\n  nonsense FROM t");
    await page.getByText('column "nonsense" does not exist').waitFor();
    assert.equal(await page.locator(".caret").innerText(), "LINE 2:   nonsense FROM t\n          ^");
    const selected = await page.evaluate(
      "(() => { const e = document.activeElement; return e.value.slice(e.selectionStart, e.selectionEnd); })()",
    );
    assert.equal(selected, "nonsense");

    await page.getByRole("link", { name: "Time line" }).click();
    await page.getByRole("link", { name: "before/accident" }).click();
    await page.getByRole("button", { name: "Delete …" }).click();
    const dialog = page.getByRole("dialog");
    const gone = dialog.getByRole("button", { name: "Delete" });
    await dialog.getByLabel(/^Type/).fill("before");
    assert.ok(await gone.isDisabled());
    await dialog.getByLabel(/^Type/).fill("before/accident");
    await gone.click();
    await page.getByRole("heading", { name: "Time line" }).waitFor();
    await page.getByRole("link", { name: "before/accident" }).waitFor({ state: "detached" });
    await page.getByRole("link", { name: "Operations" }).click();
    const row = page.locator("tr", { hasText: "branch delete" });
    assert.match(await row.innerText(), /before\/accident\s+finished/);
    assertClean(tab);
  });

  test("restores a branch to a moment, and keeps what it was", async () => {
    await serve.psql(serve.conninfo("main"), "CREATE TABLE good AS SELECT 1 AS a");
    const moment = await serve.psql(
      serve.conninfo("main"),
      "SELECT pg_sleep(0.01); SELECT clock_timestamp()",
    );
    await serve.psql(serve.conninfo("main"), "SELECT pg_sleep(0.01); DROP TABLE good");
    const at = new Date(moment.trim());
    await using tab = await openTab(browser);
    const { page } = tab;
    await logIn(page, serve, env.token);
    await page.getByRole("link", { name: "main" }).waitFor();
    // With the mouse: the middle of the first line.
    const box = (await page.locator("canvas").boundingBox())!;
    await page.mouse.click(box.x + box.width / 2, box.y + 34 + 19);
    const local = new Date(at.getTime() - at.getTimezoneOffset() * 60_000).toISOString().slice(0, -1);
    await page.getByLabel("Moment", { exact: true }).fill(local);
    await page.getByRole("button", { name: "Restore main to here" }).click();
    await page.getByRole("dialog").getByLabel("Keep what it is now as").fill("dropped");
    await page.getByRole("dialog").getByRole("button", { name: "Restore", exact: true }).click();
    await page.getByRole("link", { name: "dropped" }).waitFor();
    assert.equal(await serve.psql(serve.conninfo("main"), "SELECT count(*) FROM good"), "1");
    const { stderr } = await serve.tryPsql(serve.conninfo("dropped"), "SELECT count(*) FROM good");
    assert.match(stderr, /relation "good" does not exist/);
    assertClean(tab);
  });

  test("compares a moment with now: rows, sequences and the schema, each where it differs", async () => {
    const main = serve.conninfo("main");
    await serve.psql(
      main,
      "CREATE TABLE goods (id serial PRIMARY KEY, name text, price int);" +
        "INSERT INTO goods (name, price) SELECT 'thing ' || i, i FROM generate_series(1, 2000) i;" +
        "CREATE TABLE still AS SELECT generate_series(1, 500) AS a",
    );
    const moment = await serve.psql(main, "SELECT pg_sleep(0.01); SELECT clock_timestamp()");
    const at = new Date(moment.trim());
    await serve.psql(
      main,
      "SELECT pg_sleep(0.01); UPDATE goods SET price = 700, name = NULL WHERE id = 7;" +
        "DELETE FROM goods WHERE id = 8; SELECT setval('goods_id_seq', 5000); INSERT INTO goods (name, price) VALUES (repeat('é', 600), 9);" +
        "ALTER TABLE goods ADD COLUMN vat int",
    );
    await using tab = await openTab(browser);
    const { page } = tab;
    await logIn(page, serve, env.token);
    await page.getByRole("link", { name: "main" }).waitFor();
    // It comes from another branch by now, which would be the first line.
    await page.getByLabel("Find a branch").fill("main");
    await page.getByRole("link", { name: "dropped" }).waitFor({ state: "detached" });
    await page.locator("canvas").focus();
    await page.keyboard.press("ArrowLeft");
    await page.keyboard.press("Enter");
    const local = new Date(at.getTime() - at.getTimezoneOffset() * 60_000).toISOString().slice(0, -1);
    await page.getByLabel("Moment", { exact: true }).fill(local);
    await page.getByRole("button", { name: "Compare it with now" }).click();
    const tables = page.getByRole("region", { name: "Tables that differ" });
    assert.match(
      await tables.locator("tbody tr").first().innerText(),
      /^public\.goods\s.*\s\+1\s+−1\s+~1\s+\d+\s+Rows$/s,
    );
    assert.equal(await tables.locator("tbody > tr").count(), 1);
    await page.getByRole("button", { name: "Rows of public.goods" }).click();
    const rows = tables.locator(".diff-rows tbody tr");
    await rows.first().waitFor();
    const shown = (await rows.allInnerTexts()).map((text) => text.replace(/\s+/g, " ").trim()).sort();
    assert.equal(shown.length, 3);
    assert.deepEqual(
      shown.map((text) => text.slice(0, 24)),
      [
        `+ added 5001 ${"é".repeat(11)}`,
        "~ changed 7 thing 7 is n",
        "− removed 8 thing 8 8",
      ].sort(),
    );
    assert.match(shown.find((text) => text.startsWith("~"))!, /thing 7 is now NULL 7 is now 700$/);
    assert.match(shown.find((text) => text.startsWith("+"))!, /é… 9$/);
    assert.deepEqual(await accessibilityProblems(page), []);
    assert.match(
      await page.getByRole("region", { name: "Sequences that differ" }).innerText(),
      /goods_id_seq\s+\d+\s+50\d\d/,
    );
    const schema = page.getByRole("region", { name: "Schemas side by side" });
    assert.match(await schema.locator("td.is-added").last().innerText(), /vat integer/);
    assert.equal(
      await page.locator(".copyable code").innerText(),
      `zenith branch diff main@${at.toISOString()} main`,
    );
    // What is at neither moment is said in the API's words.
    await page.getByLabel("Moment", { exact: true }).first().fill("-100y");
    await page.getByRole("button", { name: "Compare", exact: true }).click();
    await page.getByRole("alert").waitFor();
    await serve.psql(main, "DROP TABLE goods, still");
    assertClean(tab);
  });

  test("shows what the Postgres of a branch does, its settings, and its log as it grows", async () => {
    const main = serve.conninfo("main");
    await using tab = await openTab(browser);
    const { page } = tab;
    await logIn(page, serve, env.token);
    await page.getByRole("link", { name: "main" }).click();
    const now = page.getByRole("region", { name: "Now" });
    await now.getByRole("heading", { name: "Transactions per second" }).waitFor();
    await until("the session that sleeps is counted", async () => {
      const asleep = serve.psql(main, "SELECT pg_sleep(3)");
      const seen = now.getByText(/^[1-9]\s*active/).waitFor({ timeout: 5_000 }).then(() => true, () => false);
      await asleep;
      return await seen;
    });
    await now.getByText(/^\d+(\.\d)? %$/).waitFor();
    assert.equal(await now.locator("canvas").count(), 5);
    await page.getByRole("region", { name: "PostgreSQL settings" }).getByText("log_timezone").waitFor();

    const log = page.getByRole("log");
    await log.getByText("database system is ready to accept connections").first().waitFor();
    await serve.tryPsql(main, "SELECT 'found in the log' FROM nowhere");
    await log.getByText('relation "nowhere" does not exist').waitFor();
    assert.equal(await log.getByText('relation "nowhere" does not exist').count(), 1);
    await page.getByRole("button", { name: "Supervisor" }).click();
    await log.getByText(/^\d{4}-\d\d-\d\dT\S+\s+starting\b/).first().waitFor();
    assertClean(tab);
  });

  test("offers names, shows plans as trees, exports, and goes back by a slider", async () => {
    await serve.psql(
      serve.conninfo("main"),
      'CREATE TABLE guests ("Name" text, arrived int); INSERT INTO guests SELECT i, i FROM generate_series(1, 5000) i',
    );
    await using tab = await openTab(browser, { acceptDownloads: true });
    const { page } = tab;
    await logIn(page, serve, env.token);
    await page.getByRole("link", { name: "SQL" }).click();
    const editor = page.getByLabel("Statement", { exact: true });
    const names = page.getByRole("listbox", { name: "Names" });
    await editor.fill("SELECT  FROM guests g");
    await editor.press("Home");
    for (let i = 0; i < 7; i++) await editor.press("ArrowRight");
    await editor.pressSequentially("g.");
    await names.getByRole("option", { name: /"Name"/ }).waitFor();
    await editor.press("ArrowDown");
    await editor.press("Enter");
    assert.equal(await editor.inputValue(), "SELECT g.arrived FROM guests g");
    await editor.press("Control+z");
    assert.equal(await editor.inputValue(), "SELECT g. FROM guests g");
    await editor.fill("SELECT * FROM gue");
    await editor.press("Tab");
    assert.equal(await editor.inputValue(), "SELECT * FROM guests");
    assert.ok(await names.isHidden());

    await editor.fill("SELECT * FROM guests a JOIN guests b USING (arrived) WHERE a.arrived < 10");
    await page.getByLabel("and run it").check();
    await page.getByRole("button", { name: "Explain" }).click();
    const plan = page.getByRole("region", { name: "Plan as a tree" });
    await plan.getByText("Seq Scan on guests a").waitFor();
    assert.match(await plan.locator("li li").first().innerText(), /rows/);
    await page.getByText(/^Ran for .* ms, planned in .* ms/).waitFor();
    await editor.fill("SELECT nothing FROM guests");
    await page.getByRole("button", { name: "Explain" }).click();
    await page.getByText('column "nothing" does not exist').waitFor();
    assert.equal(
      await page.locator(".caret").innerText(),
      "LINE 1: SELECT nothing FROM guests\n               ^",
    );

    await runSql(page, `SELECT 1::int8 AS a, NULL AS a, '{"b": [true]}'::json AS c, 'x"' AS d`);
    await cell(page).waitFor();
    const download = page.waitForEvent("download");
    await page.getByRole("button", { name: "Export JSON" }).click();
    const chunks: Uint8Array[] = [];
    for await (const chunk of await (await download).createReadStream()) chunks.push(chunk as Uint8Array);
    assert.deepEqual(JSON.parse(Buffer.concat(chunks).toString()), [{
      a: 1,
      a_2: null,
      c: { b: [true] },
      d: 'x"',
    }]);

    const slider = page.getByLabel("Moment of the branch");
    await slider.focus();
    await page.keyboard.press("ArrowLeft");
    await page.getByText(/You look at main as it was at/).waitFor();
    const at = Date.parse(await page.getByLabel("Moment, read-only").inputValue());
    assert.ok(at < Date.now() && at > Date.now() - 600_000);
    await page.getByRole("button", { name: "Now", exact: true }).click();
    await page.getByText(/You look at main/).waitFor({ state: "detached" });
    await serve.psql(serve.conninfo("main"), "DROP TABLE guests");
    assertClean(tab);
  });

  test("maps the layers of a branch, and what the read of a page goes through", async () => {
    const main = serve.conninfo("main");
    await serve.psql(main, "CREATE TABLE hot AS SELECT 1 AS a; CREATE TABLE cold AS SELECT 1 AS a");
    for (let i = 0; i < 3; i++) await serve.psql(main, "UPDATE hot SET a = a + 1");
    await using tab = await openTab(browser);
    const { page } = tab;
    await logIn(page, serve, env.token);
    await page.getByRole("link", { name: "main" }).click();
    await page.getByRole("link", { name: "Layers" }).click();
    await page.getByRole("heading", { name: "Layers of main" }).waitFor();
    await page.getByLabel("Table, index or file").fill("hot");
    await page.getByRole("button", { name: "Show" }).click();
    const versions = page.getByRole("region", { name: "Versions that are read, newest first" });
    await versions.waitFor();
    // A record for each row that came, and the one that makes the page.
    assert.ok(await versions.locator("tbody tr").count() >= 4);
    assert.match(await versions.locator("tbody tr").last().innerText(), /record|whole page/);
    const box = page.getByRole("button", { name: /^(delta|image) layer of / }).first();
    await box.click();
    await page.getByText("Kept for").waitFor();
    await page.getByLabel("Table, index or file").fill("nowhere");
    await page.getByRole("button", { name: "Show" }).click();
    await page.getByText('relation "nowhere" does not exist').waitFor();
    assertClean(tab);
  });

  test("shows how far an import is while it comes, how it has ended, and that an export was made", async () => {
    const tar = join(env.dir, "main.tar");
    const own = { ...process.env, ZENITH_REPO_DIR: env.repoDir };
    const script = `"$@" export main --to - > ${tar}`;
    await promisify(execFile)("/bin/sh", ["-c", script, "sh", ...zenithCommand()], { env: own });
    const bytes = readFileSync(tar);
    const copy = generateTenantId();
    const [file, ...args] = [...zenithCommand(), "import", "-", "--as", "copied", "--tenantid", copy];
    const client = spawn(file!, args, { env: own, stdio: ["pipe", "ignore", "inherit"] });
    const left = new Promise<number | null>((resolve) => client.on("exit", resolve));
    client.stdin.write(bytes.subarray(0, bytes.length >> 1));

    await using tab = await openTab(browser);
    const { page } = tab;
    await logIn(page, serve, env.token);
    await page.getByRole("link", { name: "Transfers" }).click();
    const table = page.getByRole("region", { name: "Clusters that come and go" });
    const row = table.locator("tr", { hasText: "copied" });
    await row.getByText("running").waitFor();
    await row.getByText(/^\d+(\.\d)? MiB$/).waitFor();
    await row.getByText(/^\d+(\.\d)? [KMG]?i?B\/s$/).waitFor();
    const exported = table.locator("tr", { hasText: "export" });
    assert.match(await exported.innerText(), /export\s+127\.0\.0\.1:\d+\s+main\s+finished/);
    client.stdin.end(bytes.subarray(bytes.length >> 1));
    await row.getByText("finished").waitFor();
    assert.equal(await left, 0);
    assert.deepEqual(await accessibilityProblems(page), []);
    await env.zenith("tenant", "delete", copy);
    assertClean(tab);
  });

  test("keeps what one was doing when the token ends, and when the server goes away", async () => {
    const { auth } = env.paths;
    const first = await createToken(
      auth,
      "somebody",
      { scope: "tenant", tenant: env.defaultTenant },
      undefined,
    );
    await using tab = await openTab(browser);
    const { page } = tab;
    await logIn(page, serve, first.text);
    await page.getByRole("link", { name: "main" }).waitFor();
    // It is for one tenant, so there is nothing of the installation.
    assert.deepEqual(await page.locator("nav li").allInnerTexts(), [
      "Time line",
      "SQL",
      "Compare",
      "Operations",
    ]);
    await page.getByRole("link", { name: "SQL" }).click();
    await page.getByLabel("Statement", { exact: true }).fill("SELECT 'half a thought'");

    await revokeToken(auth, first.claims.jti);
    await page.keyboard.press("Control+Enter");
    const dialog = page.getByRole("dialog", { name: "Your session has ended" });
    await dialog.getByText(/revoked/).waitFor();
    const second = await createToken(
      auth,
      "somebody",
      { scope: "tenant", tenant: env.defaultTenant },
      undefined,
    );
    await dialog.getByLabel("Token", { exact: true }).fill(second.text);
    await dialog.getByRole("button", { name: "Log in" }).click();
    await dialog.waitFor({ state: "detached" });
    assert.equal(await page.getByLabel("Statement", { exact: true }).inputValue(), "SELECT 'half a thought'");
    await runSql(page, "SELECT 'a whole one'");
    await page.getByRole("cell", { name: "a whole one" }).waitFor();

    await page.getByRole("link", { name: "Time line" }).click();
    await page.getByRole("link", { name: "main" }).waitFor();
    await serve.kill9();
    const banner = page.getByText("No answer from the server");
    await banner.waitFor();
    // What was there can still be read.
    assert.ok(await page.getByRole("link", { name: "main" }).isVisible());
    await serve.run();
    await banner.waitFor({ state: "detached" });
    await page.reload();
    await page.getByRole("link", { name: "main" }).waitFor();
    await page.getByRole("button", { name: "Log out" }).click();
    await page.getByRole("heading", { name: "Log in" }).waitFor();
    await page.reload();
    await page.getByRole("heading", { name: "Log in" }).waitFor();
    assert.deepEqual([...tab.hosts], [`127.0.0.1:${serve.httpPort}`]);
  });

  test("makes a tenant, and a token for it that is shown once and can be taken back", async () => {
    await using tab = await openTab(browser);
    const { page } = tab;
    await logIn(page, serve, env.token);
    await page.getByRole("link", { name: "Tenants" }).click();
    await page.getByRole("button", { name: "New tenant" }).click();
    await page.getByRole("dialog").getByLabel("Name").fill("bakery");
    await page.getByRole("dialog").getByRole("button", { name: "Create" }).click();
    await page.getByRole("link", { name: "bakery" }).waitFor();

    await page.getByRole("link", { name: "Tokens" }).click();
    await page.getByRole("button", { name: "New token" }).click();
    const dialog = page.getByRole("dialog");
    await dialog.getByLabel("Whom it is for").fill("baker");
    await dialog.getByLabel("Tenant").selectOption({ label: "bakery" });
    await dialog.getByRole("button", { name: "Make the token" }).click();
    const token = await page.locator("dialog pre").innerText();
    await page.getByRole("button", { name: "Done" }).click();
    assert.ok(!(await page.content()).includes(token));

    await using other = await openTab(browser);
    await logIn(other.page, serve, token);
    await other.page.getByRole("link", { name: "main" }).waitFor();
    assert.equal(await other.page.getByRole("link", { name: "Tokens" }).count(), 0);

    await page.getByRole("button", { name: "Revoke baker" }).click();
    await dialog.getByLabel(/^Type/).fill("baker");
    await dialog.getByRole("button", { name: "Revoke" }).click();
    await page.locator("tr", { hasText: "baker" }).getByText("revoked").waitFor();
    await other.page.reload();
    await other.page.getByRole("heading", { name: "Log in" }).waitFor();

    await page.getByRole("link", { name: "Tenants" }).click();
    await page.getByRole("button", { name: "Delete bakery" }).click();
    await dialog.getByLabel(/^Type/).fill("bakery");
    await dialog.getByRole("button", { name: "Delete" }).click();
    await page.getByRole("link", { name: "bakery" }).waitFor({ state: "detached" });
    assertClean(tab);
  });

  test("shows who may only look the branches, but no connection strings and no SQL", async () => {
    const { text } = await createToken(
      env.paths.auth,
      "reader",
      { scope: "read", tenant: env.defaultTenant },
      undefined,
    );
    await using tab = await openTab(browser);
    const { page } = tab;
    await logIn(page, serve, text);
    await page.getByRole("link", { name: "main" }).click();
    await page.getByRole("heading", { name: "Danger zone" }).waitFor();
    const connect = page.getByRole("region", { name: "Connect" });
    await connect.getByRole("alert").waitFor();
    assert.equal(await connect.locator("pre").count(), 0);
    await page.getByRole("link", { name: "SQL" }).click();
    await runSql(page, "SELECT 1");
    await page.locator(".sql").getByRole("alert").waitFor();
    assert.equal(await page.locator(".rows").count(), 0);
    assertClean(tab);
  });

  test("is light or dark as the system is, or as somebody has chosen, and so are its lines", async () => {
    await using tab = await openTab(browser, { colorScheme: "light" });
    const { page } = tab;
    await logIn(page, serve, env.token);
    await page.getByRole("link", { name: "main" }).waitFor();
    const ground = () => page.evaluate("getComputedStyle(document.documentElement).backgroundColor");
    /** How many pixels of the canvas have a colour. */
    const drawn = async (rgb: readonly number[]) =>
      Number(
        await page.evaluate(`(() => {
          const canvas = document.querySelector("canvas");
          const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
          let found = 0;
          for (let i = 0; i < data.length; i += 4) {
            found += data[i] === ${rgb[0]} && data[i + 1] === ${rgb[1]} && data[i + 2] === ${rgb[2]};
          }
          return found;
        })()`),
      );
    // --text-muted, behind the word "now".
    const light = [0x5b, 0x62, 0x73];
    const dark = [0x9c, 0xa4, 0xb6];
    const look = async (wanted: "light" | "dark") => {
      const [own, other] = wanted === "dark" ? [dark, light] : [light, dark];
      await until(`the lines are ${wanted}`, async () => await drawn(own) > 0 && await drawn(other) === 0);
      assert.equal(await ground(), wanted === "dark" ? "rgb(13, 15, 20)" : "rgb(246, 247, 249)");
    };
    const choose = (name: string) => page.getByRole("button", { name, exact: true }).click();
    await look("light");
    await page.emulateMedia({ colorScheme: "dark" });
    await look("dark");
    await choose("light");
    await look("light");
    await page.emulateMedia({ colorScheme: "light" });
    await choose("dark");
    await look("dark");
    await page.reload();
    await page.getByRole("link", { name: "main" }).waitFor();
    await look("dark");
    await choose("auto");
    await look("light");
    assertClean(tab);
  });

  test("shows answers that take longer than it waits to ask again", async () => {
    await using tab = await openTab(browser);
    const { page } = tab;
    await page.route("**/v1/tenants/*/operations", async (route) => {
      await sleep(3_000);
      await route.continue();
    });
    await logIn(page, serve, env.token);
    await page.getByRole("link", { name: "Operations" }).click();
    await page.getByText("compute start").first().waitFor();
    await page.unrouteAll({ behavior: "ignoreErrors" });
    assertClean(tab);
  });

  test("has an element for the branches in sight alone, when there are thousands", async () => {
    await using tab = await openTab(browser);
    const { page } = tab;
    // To make them takes a minute. What the server would say of each is what it says of main.
    await page.route("**/v1/tenants/*/branches?*", async (route) => {
      const answer = await route.fetch();
      const { items } = await answer.json() as { items: { name: string; timeline_id: string }[] };
      const main = items.find(({ name }) => name === "main")!;
      const many = Array.from({ length: 3_000 }, (_, i) => ({
        ...main,
        id: `br-${i}`,
        name: `b${i}`,
        timeline_id: `t${i}`,
        parent_timeline_id: main.timeline_id,
      }));
      await route.fulfill({ response: answer, json: { items: [main, ...many], next: null } });
    });
    await logIn(page, serve, env.token);
    await page.getByText("3001 branches").waitFor();
    // The time line does not know at once how high it is.
    await page.locator(".tl-label").nth(5).waitFor();
    const count = await page.locator(".tl-label").count();
    assert.ok(count > 5 && count < 60, `${count} labels`);
    await page.locator("canvas").focus();
    for (const key of ["ArrowLeft", "ArrowUp", "ArrowDown"]) await page.keyboard.press(key);
    await page.getByLabel("Find a branch").fill("b2999");
    await page.getByRole("link", { name: "b2999" }).waitFor();
    assert.equal(await page.locator(".tl-label").count(), 1);
    assertClean(tab);
  });

  test("is for those who can't see it or use no mouse, light and dark, down to 360 pixels", async () => {
    const answer = await fetch(`http://127.0.0.1:${serve.httpPort}/v1/tenants/${tenant}/branches/main`, {
      headers: { authorization: `Bearer ${env.token}` },
    });
    const { id } = await answer.json() as { id: string };
    await using tab = await openTab(browser, { colorScheme: "light", viewport: { width: 360, height: 740 } });
    const { page } = tab;
    await page.goto(consoleUrl(serve));
    await page.getByRole("heading", { name: "Log in" }).waitFor();
    const wrong: string[] = [];
    const look = async (name: string) => {
      for (const colorScheme of ["light", "dark"] as const) {
        await page.emulateMedia({ colorScheme });
        wrong.push(
          ...(await accessibilityProblems(page)).map((problem) => `${name}, ${colorScheme}: ${problem}`),
        );
      }
      if (await overflow(page) > 0) wrong.push(`${name} scrolls sideways`);
    };
    await look("log in");
    await logIn(page, serve, env.token);
    for (const { name, path, ready } of consolePages(tenant, id)) {
      await page.goto(consoleUrl(serve, path));
      await page.locator(ready).first().waitFor();
      if (name === "time-line") {
        await page.locator("canvas").focus();
        await page.keyboard.press("ArrowLeft");
        await page.keyboard.press("Enter");
        await page.locator(".moment").waitFor();
      }
      if (name === "sql") {
        await runSql(page, "SELECT generate_series(1, 3) AS a, repeat('wide', 40) AS b");
        await cell(page).waitFor();
      }
      await look(name);
    }
    await page.getByRole("button", { name: "New token" }).click();
    await page.getByRole("dialog").waitFor();
    await look("new token");
    assert.deepEqual(wrong, []);
    assertClean(tab);
  });
});
