// Runs that are followed, stopped and forked in a real browser.
// `node live.mjs plandag FOLDER-WITH-NODE-MODULES FOLDER-WITH-HOSTILE-PAGES`

import { spawn } from "node:child_process";
import { join, resolve } from "node:path";

import { Site, browser, cannotRun, check, leads, plandag, runOf, serious, shoot, sleep, state, told } from "./support.mjs";

const site = await Site.start();
const places = (page) => page.$$eval("#boxes > g", (boxes) => boxes.map((box) => `${box.querySelector(".id").textContent} ${box.getAttribute("transform")}`).sort());

/// A run is followed to its end, with a failure on the way; nothing jumps.
async function watched() {
  const gone = { id: "gone", tool: "fetch", args: { url: "http://127.0.0.1:1/" }, on_failure: "continue", depends_on: ["first"] };
  const { page, seen } = await site.start([sleep("first", 600), gone, sleep("second", 1500, "first"), sleep("third", 300, "second", "gone")]);
  await state(page, "running");
  const before = await places(page);
  check(await page.locator("#cancel").isVisible(), "what runs can be cancelled");
  await shoot(page, "live-running");
  await page.waitForSelector("#boxes .step.failed");
  check((await page.locator("#news").textContent()).includes("gone failed"), "a failure is announced");
  await state(page, "succeeded");
  check((await page.locator("#steps tbody tr.succeeded").count()) === 3, "the table has followed");
  check((await page.locator(".lane").count()) === 4, "so has the timeline");
  check((await places(page)).join() === before.join(), "no box has moved");
  check(await page.locator("#cancel").isHidden(), "what is over cannot be cancelled");
  check(seen.errors.length === 0, `nothing is wrong: ${seen.errors}`);
  check((await serious(page)).length === 0, `axe: ${await serious(page)}`);

  // The same again from the second step on, which is shorter now.
  await page.locator("#steps tbody tr", { hasText: "second" }).first().click();
  await page.locator("#pane summary").click();
  await page.fill("#fork-set", "ms=10");
  await leads(page, () => page.locator("#pane button", { hasText: "below it again" }).click());
  await state(page, "succeeded");
  check((await page.locator("#plans").textContent()).includes("forked"), "the fork says that it is one");
  await page.close();
}

/// A run is stopped from its page; the list of runs follows.
async function cancelled() {
  const { page: list } = await site.open();
  const known = await list.locator("#runs tbody tr").count();
  const { page } = await site.start([sleep("long", 600000), sleep("after", 10, "long")]);
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
  await leads(page, () => page.click("#retry"));
  await state(page, "running");
  await page.click("#cancel");
  await state(page, "stopped");
  await page.close();
}

/// A run of another process, with a failure and another plan, as it happens. That process is held up until its page is
/// open, so that the other plan is not there before.
async function replanned() {
  const before = (await site.api("/runs")).runs.length;
  const demo = spawn(plandag.command, ["demo"], plandag.options);
  const ended = new Promise((done) => demo.on("exit", done));
  let runs = [];
  while (runs.length <= before) ({ runs } = await site.api("/runs"));
  demo.kill("SIGSTOP");
  const { page } = await site.open(`/runs/${runs[0].run}`);
  check((await page.locator("#plans > div").count()) === 1, "there is one plan at first");
  const drawn = await places(page);
  demo.kill("SIGCONT");
  await page.waitForFunction(() => document.querySelectorAll("#plans > div").length === 2);
  await state(page, "succeeded");
  const kept = (await places(page)).filter((place) => drawn.includes(place));
  check(kept.length >= drawn.length - 1, `at most what waits for new steps has moved: ${drawn} ${await places(page)}`);
  check((await page.locator("#boxes .failed.past").count()) === 1, "what failed is still to be seen");
  await shoot(page, "live-replanned");
  await page.close();
  await ended;
}

await watched();
await cancelled();
await replanned();
site.stop();

const hostile = await Site.start("--journal", join(resolve(process.argv[4]), "hostile.db"));
await (await hostile.open()).page.close();
await cannotRun(`${hostile.origin}/runs/hostile`, (request) => request.startsWith(hostile.origin), { own: hostile.own });
hostile.stop();
console.log(told());
await browser.close();
