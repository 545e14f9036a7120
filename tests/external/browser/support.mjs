// Starting the browser and the command.

import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

const [command, modules] = process.argv.slice(2).map((path) => resolve(path));
const require = createRequire(join(modules, "package.json"));
const { chromium } = require("playwright-core");

/// Where everything of one test is kept.
export const place = mkdtempSync(join(tmpdir(), "plandag-browser-"));
const environment = { ...process.env, XDG_STATE_HOME: join(place, "state"), XDG_CACHE_HOME: join(place, "cache") };

/// Runs the command to its end, whatever that is.
export function plandag(...arguments_) {
  try {
    return execFileSync(command, arguments_, { cwd: place, env: environment, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
  } catch (error) {
    if (error.status === null) throw error;
    return error.stdout;
  }
}

/// Starts the command, and waits for an address that it says.
export function serve(...arguments_) {
  const child = spawn(command, arguments_, { cwd: place, env: environment, stdio: ["ignore", "pipe", "pipe"] });
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

// Nothing of the browser's own asks for anything. Who may do everything must say that there is no sandbox.
const flags = ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
if (process.getuid() === 0) flags.push("--no-sandbox");

export const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: flags });

/// A page, with everything that it asked for or complained of.
export async function open(address, { theme = "light", width = 1280, height = 900 } = {}) {
  const page = await browser.newPage({ colorScheme: theme, viewport: { width, height } });
  const seen = { requests: [], errors: [], dialogs: 0 };
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

export const told = () => `${checks} checks`;

/// What axe holds against a page, as far as it is serious.
export async function serious(page) {
  await page.evaluate(require("axe-core").source);
  const { violations } = await page.evaluate(() => globalThis.axe.run());
  const bad = violations.filter(({ impact }) => impact === "serious" || impact === "critical");
  return bad.map(({ id, nodes }) => `${id}: ${nodes.slice(0, 3).map((node) => node.html.slice(0, 120)).join(" ")}`);
}
