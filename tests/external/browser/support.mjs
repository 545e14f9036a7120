// Starting the browser and the command.

import { execFileSync, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const [command, modules] = process.argv.slice(2).map((path) => resolve(path));
const require = createRequire(join(modules, "package.json"));
const { chromium } = require("playwright-core");

/// How long something may take on a machine that is slow, or has much else to do.
const PATIENCE_MS = 60_000;

/// Where everything of one test is kept.
export const place = mkdtempSync(join(tmpdir(), "plandag-browser-"));
const environment = { ...process.env, XDG_STATE_HOME: join(place, "state"), XDG_CACHE_HOME: join(place, "cache") };

const options = { cwd: place, env: environment, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] };

/// Runs the command to its end, whatever that is.
export function plandag(...arguments_) {
  try {
    return execFileSync(command, arguments_, options);
  } catch (error) {
    if (error.status === null) throw error;
    return error.stdout;
  }
}

Object.assign(plandag, { command, options });

/// Starts the command, and waits for an address that it says.
export function serve(...arguments_) {
  const child = spawn(command, arguments_, options);
  process.on("exit", () => child.kill());
  return new Promise((done, fail) => {
    let said = "";
    const listen = (bytes) => {
      said += bytes;
      const address = said.match(/http:\/\/\S+/);
      if (address) done({ child, address: address[0] });
    };
    child.stdout.on("data", listen);
    child.stderr.on("data", listen);
    child.on("exit", (code) => fail(new Error(`it ended with ${code}: ${said}`)));
  });
}

/// A server, and somebody who visits it.
export class Site {
  static async start(...options) {
    const { child, address } = await serve("serve", "--port", "0", "--mcp", "mcp.json", ...options);
    return Object.assign(new Site(), { child, address, origin: new URL(address).origin, own: await context() });
  }

  /// The list of runs, or whatever else is there.
  async open(path = "") {
    const { page, seen } = await open(path ? this.origin + path : this.address, { own: this.own });
    return { page, seen };
  }

  /// Starts what is written into the form of the list of runs, and is on its page then.
  async submit(source) {
    const { page, seen } = await this.open();
    await page.fill("#source", source);
    await page.click("#new button");
    await page.waitForURL("**/runs/*");
    await page.waitForSelector("#toolbar:not([hidden])");
    return { page, seen };
  }

  start(steps) {
    return this.submit(JSON.stringify({ objective: "Watch it", steps }));
  }

  /// What the server says without a page.
  async api(path) {
    return (await this.own.request.get(`${this.origin}/api${path}`)).json();
  }

  stop() {
    this.child.kill("SIGINT");
  }
}

export const sleep = (id, ms, ...after) => ({ id, tool: "sleep", args: { ms }, depends_on: after });

/// A step that runs until its gate is opened, so that what has to be seen meanwhile is seen on a slow machine, too.
export const held = (id, ...after) => ({ id, tool: "post.wait", args: { gate: id }, depends_on: after });
export const letGo = (id) => writeFileSync(join(place, `${id}.open`), "");

/// What `held` waits for, and what else a server that is not ours can do.
const letters = fileURLToPath(new URL("letters.mjs", import.meta.url));
const post = { command: process.execPath, args: [letters, place], trust: true };
writeFileSync(join(place, "mcp.json"), JSON.stringify({ mcpServers: { post } }));

/// The name of the run that a page shows.
export const runOf = (page) => decodeURIComponent(new URL(page.url()).pathname.split("/").pop());

/// Waits until a run is in a state.
export const state = (page, word) => says(page, "#state", word);

/// Does what leads to the page of another run, and waits until that is there.
export async function leads(page, act) {
  const old = new URL(page.url()).pathname;
  await act();
  await page.waitForURL((url) => url.pathname !== old);
  await page.waitForSelector("#toolbar:not([hidden])");
}

// Nothing of the browser's own asks for anything. Who may do everything must say that there is no sandbox.
const flags = ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
if (process.getuid() === 0) flags.push("--no-sandbox");

export const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: flags });

/// Somebody whose pages share what a server has given them to keep.
export const context = () => browser.newContext({ viewport: { width: 1280, height: 900 } });

/// How many times slower the browser is, and what it is told late: `PLANDAG_SLOWER=8` shows what depends on haste.
const SLOWER = Number(process.env.PLANDAG_SLOWER ?? 1);
async function slowDown(page) {
  const client = await page.context().newCDPSession(page);
  await client.send("Emulation.setCPUThrottlingRate", { rate: SLOWER });
  await page.route("**/api/**", async (route) => {
    await new Promise((done) => setTimeout(done, 50 * SLOWER));
    await route.continue().catch(() => {});
  });
}

/// A page, with everything that it asked for or complained of.
export async function open(address, { theme = "light", width = 1280, height = 900, own } = {}) {
  const page = own ? await own.newPage() : await browser.newPage({ colorScheme: theme, viewport: { width, height } });
  const seen = { requests: [], errors: [], dialogs: 0 };
  page.setDefaultTimeout(PATIENCE_MS);
  if (SLOWER > 1) await slowDown(page);
  page.on("request", (request) => seen.requests.push(request.url()));
  page.on("pageerror", (error) => seen.errors.push(error.message));
  page.on("console", (message) => message.type() === "error" && seen.errors.push(message.text()));
  page.on("dialog", (dialog) => {
    seen.dialogs += 1;
    dialog.dismiss();
  });
  await page.goto(address);
  await page.waitForSelector("#toolbar:not([hidden])");
  return { page, seen };
}

let checks = 0;
export function check(is, what) {
  checks += 1;
  if (!is) throw new Error(`not so: ${what}`);
}

/// Waits until something is so. A page follows its run, and what is clicked, in its own time.
export async function becomes(is, what) {
  const end = Date.now() + PATIENCE_MS;
  while (!(await is()) && Date.now() < end) await new Promise((done) => setTimeout(done, 20));
  check(await is(), what());
}

/// Waits until what is shown at a place has some words in it.
export async function says(page, selector, words) {
  const place = page.locator(selector).first();
  let said = "";
  await becomes(async () => (said = await place.textContent()).includes(words), () => `${selector} says "${words}": ${said}`);
}

/// Waits until so many things are shown.
export async function shows(page, selector, count) {
  let shown = 0;
  await becomes(async () => (shown = await page.locator(selector).count()) === count, () => `${count} of ${selector}: ${shown}`);
}

export const told = () => `${checks} checks`;

/// What axe holds against a page, as far as it is serious.
export async function serious(page) {
  await page.evaluate(require("axe-core").source);
  const { violations } = await page.evaluate(() => globalThis.axe.run());
  const bad = violations.filter(({ impact }) => impact === "serious" || impact === "critical");
  return bad.map(({ id, nodes }) => `${id}: ${nodes.slice(0, 3).map((node) => node.html.slice(0, 120)).join(" ")}`);
}

const shots = process.env.PLANDAG_SCREENSHOTS;
if (shots) mkdirSync(shots, { recursive: true });

/// A picture of a page, for people, where somebody wants some: in the folder that `PLANDAG_SCREENSHOTS` names.
export const shoot = async (page, name) => shots && page.screenshot({ path: join(shots, `${name}.png`), fullPage: true });

/// A hundred texts that would run, in five fields of a hundred steps.
export async function cannotRun(address, mayAsk, choices = {}) {
  const { page, seen } = await open(address, choices);
  const title = await page.title();
  for (let n = 0; n < 100; n += 1) {
    await page.keyboard.press("j");
    if (n % 10 === 0) await page.mouse.move(200 + n, 300 + n);
  }
  await page.waitForTimeout(300);
  await shows(page, "#steps tbody tr", 100);
  check((await page.title()) === title && !title.startsWith("owned"), `nothing has run: ${await page.title()}`);
  check(seen.dialogs === 0 && page.url().startsWith(address), "nothing has opened");
  const asked = seen.requests.filter((request) => !mayAsk(request));
  check(asked.length === 0, `nothing was asked for: ${asked}`);
  await page.close();
}
