// Runs that are followed, stopped and forked in a real browser.
// `node live.mjs plandag FOLDER-WITH-NODE-MODULES FOLDER-WITH-HOSTILE-PAGES`

import { spawn } from "node:child_process";
import { join, resolve } from "node:path";

import { browser, cannotRun, check, context, open, plandag, serious, serve, shoot, told } from "./support.mjs";

const { child, address } = await serve("serve", "--port", "0");
const origin = new URL(address).origin;
const own = await context();

/// Starts a plan from the list of runs, and is on its page then.
async function start(steps) {
  const { page, seen } = await open(address, { own });
  await page.fill("#source", JSON.stringify({ objective: "Watch it", steps }));
  await page.click("#new button");
  await page.waitForURL("**/runs/*");
  await page.waitForSelector("#toolbar:not([hidden])");
  return { page, seen };
}

const sleep = (id, ms, ...after) => ({ id, tool: "sleep", args: { ms }, depends_on: after });
const state = (page, word) => page.waitForFunction((word) => document.getElementById("state").textContent.includes(word), word, { timeout: 20000 });
const places = (page) => page.$$eval("#boxes > g", (boxes) => boxes.map((box) => `${box.querySelector(".id").textContent} ${box.getAttribute("transform")}`).sort().join("; "));

/// A run is followed to its end, with a failure on the way; nothing jumps.
async function watched() {
  const gone = { id: "gone", tool: "fetch", args: { url: "http://127.0.0.1:1/" }, on_failure: "continue", depends_on: ["first"] };
  const { page, seen } = await start([sleep("first", 600), gone, sleep("second", 1500, "first"), sleep("third", 300, "second", "gone")]);
  await state(page, "running");
  const before = await places(page);
  check(await page.locator("#cancel").isVisible(), "what runs can be cancelled");
  await shoot(page, "live-running");
  await page.waitForSelector("#boxes .step.failed");
  check((await page.locator("#news").textContent()).includes("gone failed"), "a failure is announced");
  await state(page, "succeeded");
  check((await page.locator("#steps tbody tr.succeeded").count()) === 3, "the table has followed");
  check((await page.locator(".lane").count()) === 4, "so has the timeline");
  check((await places(page)) === before, "no box has moved");
  check(await page.locator("#cancel").isHidden(), "what is over cannot be cancelled");
  check(seen.errors.length === 0, `nothing is wrong: ${seen.errors}`);
  check((await serious(page)).length === 0, `axe: ${await serious(page)}`);

  // The same again from the second step on, which is shorter now.
  await page.locator("#steps tbody tr", { hasText: "second" }).first().click();
  await page.locator("#pane summary").click();
  await page.fill("#fork-set", "ms=10");
  const old = new URL(page.url()).pathname;
  await page.locator("#pane button", { hasText: "below it again" }).click();
  await page.waitForURL((url) => url.pathname !== old);
  await page.waitForSelector("#toolbar:not([hidden])");
  await state(page, "succeeded");
  check((await page.locator("#plans").textContent()).includes("forked"), "the fork says that it is one");
  await page.close();
}

/// A run is stopped from its page; the list of runs follows.
async function cancelled() {
  const { page: list } = await open(address, { own });
  const known = await list.locator("#runs tbody tr").count();
  const { page } = await start([sleep("long", 600000), sleep("after", 10, "long")]);
  await state(page, "running");
  await page.click("#cancel");
  await state(page, "stopped");
  check((await page.locator("#problem").textContent()).includes("cancelled"), "and says so");
  check(await page.locator("#retry").isVisible(), "what was stopped can be tried again");
  await list.waitForFunction((known) => document.querySelectorAll("#runs tbody tr").length === known + 1, known);
  await list.locator("#runs tbody tr.stopped", { hasText: "Watch it" }).waitFor();
  check((await serious(list)).length === 0, `axe, the list: ${await serious(list)}`);
  await shoot(list, "live-runs");
  await list.close();

  // The same once more, as a run of its own.
  const old = new URL(page.url()).pathname;
  await page.click("#retry");
  await page.waitForURL((url) => url.pathname !== old);
  await page.waitForSelector("#toolbar:not([hidden])");
  await state(page, "running");
  await page.click("#cancel");
  await state(page, "stopped");
  await page.close();
}

/// A run of another process, with a failure and another plan, as it happens.
async function replanned() {
  const known = async () => (await own.request.get(`${origin}/api/runs`)).json();
  const before = (await known()).runs.length;
  const demo = spawn(plandag.command, ["demo"], plandag.options);
  let runs = [];
  while (runs.length <= before) ({ runs } = await known());
  const { page } = await open(`${origin}/runs/${runs[0].run}`, { own });
  await state(page, "succeeded");
  check((await page.locator("#plans > div").count()) === 2, "there are two plans");
  check((await page.locator("#boxes .failed.past").count()) === 1, "what failed is still to be seen");
  await shoot(page, "live-replanned");
  await page.close();
  if (demo.exitCode === null) await new Promise((done) => demo.on("exit", done));
}

await watched();
await cancelled();
await replanned();
child.kill("SIGINT");

const hostile = await serve("serve", "--port", "0", "--journal", join(resolve(process.argv[4]), "hostile.db"));
const there = new URL(hostile.address).origin;
const visitor = await context();
const { page } = await open(hostile.address, { own: visitor });
await page.close();
await cannotRun(`${there}/runs/hostile`, (request) => request.startsWith(there), { own: visitor });
hostile.child.kill("SIGINT");
console.log(told());
await browser.close();
