/** A real browser, Debian's Chromium, driven by playwright-core. */
import { existsSync } from "node:fs";
import { type Browser, type BrowserContextOptions, chromium, type Page } from "playwright-core";

const CHROMIUM = "/usr/bin/chromium";

/** Why there is no browser; false when there is one. For `skip`. */
export const noBrowser = existsSync(CHROMIUM) ? false : "Debian's chromium is not installed";

export async function launchBrowser(): Promise<Browser> {
  // A container's /dev/shm is small.
  return await chromium.launch({ executablePath: CHROMIUM, args: ["--disable-dev-shm-usage"] });
}

/** A page in a context of its own, with a list of what went wrong in it. */
export interface Tab extends AsyncDisposable {
  readonly page: Page;
  /** Exceptions, and what the browser has refused, such as what the content security policy forbids. */
  readonly problems: string[];
  /** The hosts that it has asked for anything. */
  readonly hosts: Set<string>;
}

export async function openTab(browser: Browser, options: BrowserContextOptions = {}): Promise<Tab> {
  // Colours that are on their way to others are nobody's choice.
  const context = await browser.newContext({ reducedMotion: "reduce", ...options });
  // How long something takes decides nothing: this is for what never comes.
  context.setDefaultTimeout(90_000);
  const page = await context.newPage();
  const problems: string[] = [];
  const hosts = new Set<string>();
  page.on("pageerror", (error) => problems.push(String(error)));
  page.on("console", (message) => {
    // A request that was refused is an answer, which the page shows.
    if (message.type() === "error" && !message.text().startsWith("Failed to load resource")) {
      problems.push(message.text());
    }
  });
  page.on("request", (request) => hosts.add(new URL(request.url()).host));
  return { page, problems, hosts, [Symbol.asyncDispose]: () => context.close() };
}
