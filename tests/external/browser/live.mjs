// Runs that are followed, stopped and forked in a real browser.
// `node live.mjs plandag FOLDER-WITH-NODE-MODULES FOLDER-WITH-HOSTILE-PAGES`

import { spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join, resolve } from "node:path";

import {
  Site, becomes, browser, cannotRun, check, held, leads, letGo, place, plandag, runOf, says, serious, serve, shoot, shows,
  sleep, state, told,
} from "./support.mjs";

const site = await Site.start();
const places = (page) => page.$$eval("#boxes > g", (boxes) => boxes.map((box) => `${box.querySelector(".id").textContent} ${box.getAttribute("transform")}`).sort());

/// What a screen reader is given of a page: the nodes of the browser's accessibility tree that are not left out.
async function spoken(page) {
  const client = await page.context().newCDPSession(page);
  const { nodes } = await client.send("Accessibility.getFullAXTree");
  await client.detach();
  const known = new Map(nodes.map((node) => [node.nodeId, node]));
  const inOrder = (node) => (node.ignored ? [] : [node]).concat((node.childIds ?? []).flatMap((id) => (known.has(id) ? inOrder(known.get(id)) : [])));
  const roots = nodes.filter((node) => !known.has(node.parentId));
  const property = (node, name) => node.properties?.find((property) => property.name === name)?.value.value;
  return roots.flatMap(inOrder).map((node) => ({
    role: node.role?.value, name: node.name?.value ?? "", live: property(node, "live"), focusable: property(node, "focusable"),
  }));
}

/// Every step is said with its name, its state and what it waits for, after all that it depends on; and keys lead through
/// them in that order.
async function isSpoken(page, steps) {
  const said = (await spoken(page)).filter(({ role, focusable }) => role === "button" && focusable).map(({ name }) => name);
  const places = [];
  for (const { id, state, after } of steps) {
    const place = said.findIndex((name) => name.startsWith(`${id} `) && name.includes(state));
    check(place >= 0, `${id} is announced as ${state}: ${said.join(" | ")}`);
    check(after.every((earlier) => said[place].includes(earlier)), `${id} is announced with what it waits for: ${said[place]}`);
    check(after.every((earlier) => places[earlier] < place), `${id} is announced after that`);
    places[id] = place;
  }
  await page.locator("h1").click();
  for (const place of steps.map(({ id }) => places[id]).sort((a, b) => a - b)) {
    await page.keyboard.press("j");
    const focused = await page.evaluate(() => document.activeElement.getAttribute("aria-label"));
    check(focused === said[place], `the keys lead on in that order: ${focused}`);
  }
  await page.keyboard.press("Escape");
}

/// A run is followed to its end, with a failure on the way; nothing jumps.
async function watched() {
  const gone = { id: "gone", tool: "fetch", args: { url: "http://127.0.0.1:1/" }, on_failure: "continue", depends_on: ["first"] };
  const { page, seen } = await site.start([held("first"), gone, held("second", "first"), sleep("third", 300, "second", "gone")]);
  await state(page, "running");
  const before = await places(page);
  await page.evaluate(() => {
    globalThis.heard = [];
    const news = document.getElementById("news");
    new MutationObserver(() => heard.push(news.textContent)).observe(news, { childList: true, characterData: true, subtree: true });
  });
  await isSpoken(page, [
    { id: "first", state: "running", after: [] },
    { id: "gone", state: "waiting", after: ["first"] },
    { id: "second", state: "waiting", after: ["first"] },
    { id: "third", state: "waiting", after: ["second", "gone"] },
  ]);
  check((await spoken(page)).some(({ live }) => live === "polite"), "there is a place where news are read out");
  check(await page.locator("#cancel").isVisible(), "what runs can be cancelled");
  await shoot(page, "live-running");
  letGo("first");
  await page.waitForSelector("#boxes .step.failed");
  await says(page, "#news", "gone failed");
  letGo("second");
  await state(page, "succeeded");
  await shows(page, "#steps tbody tr.succeeded", 3);
  await shows(page, ".lane", 4);
  check((await places(page)).join() === before.join(), "no box has moved");
  await page.locator("#cancel").waitFor({ state: "hidden" });
  const failures = (await page.evaluate(() => heard)).filter((text) => text.includes("gone failed"));
  check(failures.length === 1, `a failure is announced once: ${failures}`);
  await isSpoken(page, [
    { id: "first", state: "succeeded", after: [] },
    { id: "gone", state: "failed", after: ["first"] },
    { id: "third", state: "succeeded", after: ["second", "gone"] },
    { id: "second", state: "succeeded", after: ["first"] },
  ].sort((a, b) => a.after.length - b.after.length));
  check(seen.errors.length === 0, `nothing is wrong: ${seen.errors}`);
  check((await serious(page)).length === 0, `axe: ${await serious(page)}`);

  // The same again from the second step on, which waits for something else now.
  await page.locator("#steps tbody tr", { hasText: "second" }).first().click();
  await says(page, "#pane h2", "second");
  await page.locator("#pane summary").click();
  await page.fill("#fork-set", "gate=first");
  await leads(page, () => page.locator("#pane button", { hasText: "below it again" }).click());
  await state(page, "succeeded");
  await says(page, "#plans", "forked");
  await page.close();
}

/// A run is stopped from its page; the list of runs follows.
async function cancelled() {
  const { page: list } = await site.open();
  const known = (await site.api("/runs")).runs.length;
  await shows(list, "#runs tbody tr", known);
  const { page } = await site.start([sleep("long", 600000), sleep("after", 10, "long")]);
  await state(page, "running");
  await page.click("#cancel");
  // It is given five seconds, unless somebody is quicker; where everything is slow, nobody is.
  const isQuicker = await page.locator("#cancel", { hasText: "Stop now" }).click({ timeout: 4000 }).then(() => true, () => false);
  await state(page, "stopped");
  await says(page, "#problem", "cancelled");
  const { elapsed_us: elapsed } = (await site.api(`/runs/${runOf(page)}`)).head;
  console.log(`stopped after ${(elapsed / 1e6).toFixed(1)} s${isQuicker ? ", at the second click" : ""}`);
  await page.locator("#retry").waitFor();
  await shows(list, "#runs tbody tr", known + 1);
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

/// A run of another process, with a failure and another plan, as it happens. Once it has its plan, that process is held up
/// until its page is open, so that the other plan is not there before.
async function replanned() {
  const { child: demo, ended, run } = await startedBeside("demo");
  while ((await site.api(`/runs/${run}`)).plans.length === 0);
  demo.kill("SIGSTOP");
  const { page } = await site.open(`/runs/${run}`);
  await shows(page, "#plans > div", 1);
  const drawn = await places(page);
  demo.kill("SIGCONT");
  await shows(page, "#plans > div", 2);
  await state(page, "succeeded");
  const kept = (await places(page)).filter((place) => drawn.includes(place));
  check(kept.length >= drawn.length - 1, `at most what waits for new steps has moved: ${drawn} ${await places(page)}`);
  await shows(page, "#boxes .failed.past", 1);
  await shoot(page, "live-replanned");
  await page.close();
  await ended;
}

/// What the command starts, it has started beside the server; the run is there when its name is.
async function startedBeside(...arguments_) {
  const before = (await site.api("/runs")).runs.length;
  const child = spawn(plandag.command, arguments_, plandag.options);
  const ended = new Promise((done) => child.on("exit", done));
  let runs = [];
  while (runs.length <= before) ({ runs } = await site.api("/runs"));
  return { child, ended, run: runs[0].run };
}

/// Steps that become plans: what is finished of them is folded, what goes on is not, and both can be had otherwise.
async function folded() {
  const plan = (...steps) => JSON.stringify({ steps });
  writeFileSync(join(place, "short.json"), plan(sleep("a", 1), sleep("b", 1, "a"), sleep("c", 1, "a")));
  writeFileSync(join(place, "long.json"), plan(sleep("a", 1), held("in-long", "a"), sleep("c", 1, "in-long")));
  writeFileSync(join(place, "lines.txt"), "short.json\nlong.json\n");
  const { ended, run } = await startedBeside("run", "--batch", "lines.txt", "--mcp", "mcp.json");
  const { page, seen } = await site.open(`/runs/${run}`);
  const boxes = () => page.$$eval("#boxes .id", (ids) => ids.map((id) => id.textContent).sort());
  const drawn = (...ids) => becomes(async () => (await boxes()).join() === ids.join(), () => `${ids} are drawn`);
  await drawn("1", "2", "2/a", "2/c", "2/in-long");
  await page.waitForSelector("#boxes .step.running");
  await page.locator("#boxes .step", { hasText: "3 inside" }).waitFor();
  await shoot(page, "live-folded");
  const before = await places(page);
  await page.keyboard.press("u");
  await drawn("1", "1/a", "1/b", "1/c", "2", "2/a", "2/c", "2/in-long");
  check((await serious(page)).length === 0, `axe: ${await serious(page)}`);
  await shoot(page, "live-unfolded");
  await page.keyboard.press("u");
  check((await places(page)).join() === before.join(), "folded again, everything is where it was");
  letGo("in-long");
  await state(page, "succeeded");
  await drawn("1", "2");
  check(seen.errors.length === 0, `nothing is wrong: ${seen.errors}`);
  await shoot(page, "live-all-folded");
  await page.locator("#steps tbody tr", { hasText: "2/c" }).first().click();
  await says(page, "#pane h2", "2/c");
  await page.close();
  await ended;
}

/// Whether somebody sees a page, as a browser says it of its tabs. Those of this one are always seen.
const isSeen = (page, is) => page.evaluate((hidden) => {
  Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
  document.dispatchEvent(new Event("visibilitychange"));
}, !is);

/// A browser has six connections for a server. However many pages of live runs are open, the one that is seen follows
/// its run, and the server answers.
async function manyTabs() {
  const { page: first } = await site.start([held("of-many"), sleep("then", 1, "of-many")]);
  const pages = [first];
  while (pages.length < 8) {
    await isSeen(pages.at(-1), false);
    pages.push((await site.open(`/runs/${runOf(first)}`)).page);
    await says(pages.at(-1), "#connection", "live");
  }
  for (const page of pages) {
    for (const other of pages) await isSeen(other, other === page);
    await says(page, "#connection", "live");
    check(await page.evaluate(async () => (await fetch("/api")).ok), "the server answers");
  }
  letGo("of-many");
  await state(pages.at(-1), "succeeded");
  for (const page of pages) await becomes(async () => (await page.title()).startsWith("✓"), () => "the titles of the others say so, too");
  check((await first.locator("#state").textContent()).includes("running"), "which nobody sees, so they show nothing new");
  await isSeen(first, true);
  await state(first, "succeeded");
  for (const page of pages) await page.close();
}

/// A server that was started anew has another token. Pages of the old one say so, and do not ask for ever.
async function startedAnew() {
  const { page } = await site.start([sleep("long", 600000)]);
  await state(page, "running");
  const ended = new Promise((done) => site.child.on("exit", done));
  site.child.kill("SIGKILL");
  await says(page, "#connection", "connecting");
  await ended;
  const next = await serve("serve", "--port", new URL(site.origin).port);
  await says(page, "#message", "started anew");
  // The run has a process of its own, which would sleep on.
  plandag("cancel", runOf(page), "--now");
  await page.close();
  next.child.kill("SIGINT");
}

await watched();
await cancelled();
await replanned();
await folded();
await manyTabs();
await startedAnew();

const hostile = await Site.start("--journal", join(resolve(process.argv[4]), "hostile.db"));
await (await hostile.open()).page.close();
await cannotRun(`${hostile.origin}/runs/hostile`, (request) => request.startsWith(hostile.origin), { own: hostile.own });
hostile.stop();
console.log(told());
await browser.close();
