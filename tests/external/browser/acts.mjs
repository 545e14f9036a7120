// What a page can do, clicked in a real browser, and what came of it: in the journal, in files, in processes.
// `node acts.mjs plandag FOLDER-WITH-NODE-MODULES`

import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";

import {
  Site, becomes, browser, check, held, leads, letGo, place, plandag, runOf, says, serious, shoot, shows, sleep, state, told,
} from "./support.mjs";

mkdirSync(join(place, "notes"));
writeFileSync(join(place, "notes", "tides.md"), "# Tides\n\nSpring tides come after the new moon and after the full moon.\n");

// It has nothing to give at first, and says when it will.
let asked = 0;
const busy = createServer((_, answer) => {
  asked += 1;
  if (asked === 1) answer.writeHead(503, { "Retry-After": "6" });
  answer.end("here it is");
});
await new Promise((done) => busy.listen(0, "127.0.0.1", done));
const host = `127.0.0.1:${busy.address().port}`;

const site = await Site.start("--files", "notes", "--allow-host", host);

const sent = () => (existsSync(join(place, "sent")) ? readFileSync(join(place, "sent"), "utf8").trim().split("\n") : []);
const letter = { id: "letter", tool: "post.read" };
const reply = (said) => ({ id: "reply", tool: "post.send", args: { text: `${said} \${letter.text}` } });

/// Chooses a step in the table, and waits until it is shown.
async function choose(page, id) {
  await page.locator("#steps tbody tr th a", { hasText: new RegExp(`^${id}$`) }).last().click();
  await says(page, "#pane h2", id);
}
const press = (page, label) => page.locator("#pane button", { hasText: label }).click();
const stateOf = async (run, id) => (await site.api(`/runs/${run}`)).steps.findLast((step) => step.id === id).state;

/// A step that would act on text from outside waits for somebody, while the rest goes on; then it acts, once.
async function approved() {
  const { page } = await site.start([held("first"), { ...letter, depends_on: ["first"] }, reply("yes:"), held("other")]);
  await page.waitForSelector("#steps tr.running");
  letGo("first");
  await page.waitForSelector("#steps tr.unapproved");
  await says(page, "#news", "reply unapproved");
  check(sent().length === 0, "nothing was done unasked");
  await page.waitForSelector("#boxes .unapproved.outside .hatching", { state: "attached" });
  const reached = (await site.api(`/runs/${runOf(page)}`)).steps.filter((step) => step.outside).map((step) => step.id);
  check(reached.includes("reply") && !reached.includes("other"), `text from outside has reached ${reached}`);
  check(await page.locator("#boxes .hatching").count() === reached.length, "what it has reached is hatched, and nothing else");
  check(await page.locator("#outside").isVisible(), "and the legend says what that means");
  await choose(page, "reply");
  await says(page, "#pane", "from letter");
  await says(page, "#pane", "a letter from a stranger");
  await shoot(page, "acts-unapproved");
  check((await serious(page)).length === 0, `axe: ${await serious(page)}`);
  await press(page, "Let it act");
  await becomes(() => sent().length === 1, () => "it acts");
  check((await stateOf(runOf(page), "other")) === "running", "and does not wait for the rest");
  letGo("other");
  await state(page, "succeeded");
  check(sent().join() === "yes: a letter from a stranger", `it has acted: ${sent()}`);
  await page.close();
}

/// The same with nothing else to do: the run has stopped by then, and ends once it was decided.
async function denied() {
  const before = sent().length;
  const { page } = await site.start([letter, reply("no:"), sleep("after", 1, "reply")]);
  await state(page, "undecided");
  await choose(page, "reply");
  await press(page, "Do not");
  await state(page, "failed");
  check(sent().length === before, "nothing was sent");
  check((await stateOf(runOf(page), "reply")) === "failed", "the step has failed");
  check((await stateOf(runOf(page), "after")) === "skipped", "and what depends on it was not done");
  await page.close();
}

/// Nobody knows whether a step that acts took effect when it was cut off: a person says so, while the rest goes on or
/// after it.
async function resolved() {
  const paid = (gate) => readFileSync(join(place, "paid"), "utf8").trim().split("\n").filter((line) => line === gate).length;
  const trials = [
    ["It took effect", "effect", "succeeded", "succeeded"],
    ["Run it again", "again", "succeeded", "succeeded"],
    ["It did not", "none", "failed", "skipped"],
  ];
  for (const [label, gate, pay, after] of trials) {
    const rest = `rest-of-${gate}`;
    const { page } = await site.start([
      { id: "pay", tool: "post.pay", args: { gate }, timeout_ms: 1000 }, sleep("after", 1, "pay"), held(rest),
    ]);
    await page.waitForSelector("#steps tr.unknown");
    await says(page, "#news", "pay unknown");
    await choose(page, "pay");
    if (gate === "effect") {
      check((await serious(page)).length === 0, `axe: ${await serious(page)}`);
      await page.locator("#pane summary").click();
      await page.fill("#outcome", "{receipt: 17}");
      await press(page, label);
      await says(page, "#message", "not JSON");
      await page.fill("#outcome", '{"receipt": 17}');
      await shoot(page, "acts-unknown");
    } else {
      // Nothing else is left to do, so the run has stopped, and goes on by itself.
      letGo(rest);
      await state(page, "undecided");
    }
    letGo(gate);
    await press(page, label);
    const is = async (id, word) => (await stateOf(runOf(page), id)) === word;
    await becomes(async () => (await is("pay", pay)) && (await is("after", after)), () => `${label}: ${pay}, ${after}`);
    if (gate === "effect") {
      await says(page, "#pane", '"receipt": 17');
      check((await site.api(`/runs/${runOf(page)}/steps/pay`)).output.receipt === 17, "what somebody found out is its output");
      check(await is(rest, "running"), "the rest goes on meanwhile");
      letGo(rest);
    }
    await state(page, pay);
    check(paid(gate) === (gate === "again" ? 2 : 1), `${label}: it was done as often as somebody wanted`);
    await page.close();
  }
}

/// What was stopped, and what was killed, goes on where it was.
async function goneOnWith() {
  for (const how of ["cancelled", "killed"]) {
    const { page } = await site.start([sleep("first", 1), held(how, "first"), sleep("third", 1, how)]);
    await shows(page, "#steps tr.succeeded", 1);
    const run = runOf(page);
    if (how === "cancelled") {
      // What runs may end; nothing new is started.
      await page.click("#cancel");
      await state(page, "stopped");
    } else {
      // Who asks for a run that somebody has is told who that is.
      const [, pid] = plandag("resume", run, "--json").match(/pid (\d+)/);
      process.kill(Number(pid), "SIGKILL");
      await state(page, "interrupted");
    }
    check((await stateOf(run, "third")) !== "succeeded", `${how}: it is not done`);
    letGo(how);
    await page.click("#resume");
    await state(page, "succeeded");
    await page.locator("#resume").waitFor({ state: "hidden" });
    const { steps } = await site.api(`/runs/${run}`);
    check(steps.length === 3 && steps[0].calls.length === 1, `${how}: what was done was not done again`);
    check(steps.every((step) => step.state === "succeeded"), `${how}: the rest was`);
    await page.close();
  }
}

/// What failed is tried again as a new run, which takes over the rest.
async function retried() {
  const { page } = await site.start([sleep("first", 1), { id: "broken", tool: "post.mended", retry: { max_attempts: 1 }, depends_on: ["first"] }]);
  await state(page, "failed");
  const old = runOf(page);
  writeFileSync(join(place, "mended"), "");
  await leads(page, () => page.click("#retry"));
  await state(page, "succeeded");
  check(runOf(page) !== old && (await stateOf(old, "broken")) === "failed", "the old run is as it was");
  const { steps } = await site.api(`/runs/${runOf(page)}`);
  const calls = (id) => steps.filter((step) => step.id === id).flatMap((step) => step.calls).length;
  check(calls("first") <= 1 && (await site.api(`/runs/${runOf(page)}/steps/broken`)).output !== undefined, "what had worked is taken over");
  await page.close();
}

/// A run is forked from a step: with other arguments, and without the step.
async function forked() {
  const calculate = (id, expression, ...after) => ({ id, tool: "calculate", args: { expression }, depends_on: after });
  const { page } = await site.start([calculate("base", "6 * 7"), calculate("more", "${base.result} + 1"), calculate("apart", "1 + 1")]);
  await state(page, "succeeded");
  const value = async (id) => (await site.api(`/runs/${runOf(page)}/steps/${id}`)).output.result;
  const old = await value("more");
  await choose(page, "base");
  await page.locator("#pane summary").click();
  await page.fill("#fork-set", "expression=10 * 10");
  await leads(page, () => press(page, "below it again"));
  await state(page, "succeeded");
  check((await value("base")) !== old && (await value("more")) === (await value("base")) + 1, "the step and what is below it were done again");
  check((await value("apart")) === 2, "the rest was taken over");
  await choose(page, "apart");
  await page.locator("#pane summary").click();
  await leads(page, () => press(page, "Run without it"));
  await state(page, "succeeded");
  check((await stateOf(runOf(page), "apart")) === "skipped", "the fork does without the step");
  await page.close();
}

/// The form takes objectives and plans, and says what is wrong with what is neither.
async function submitted() {
  const { page } = await site.submit("When do spring tides come?");
  await state(page, "succeeded");
  await says(page, "#answer", "full moon");
  await page.close();

  const { page: list } = await site.open();
  const before = (await site.api("/runs")).runs.length;
  await list.fill("#source", JSON.stringify({ steps: [{ id: "a", tool: "sleep", depends_on: ["a"] }] }));
  await list.click("#new button");
  await says(list, "#message", "plan.cycle");
  check((await list.inputValue("#source")).includes("depends_on"), "it says why not, and takes nothing away");
  check((await site.api("/runs")).runs.length === before, "nothing was started");
  await list.close();
}

/// While nothing runs, the timeline goes by quickly; and it shows as little of the time as one likes.
async function timed() {
  const { page: nap } = await site.start([sleep("nap", 2000)]);
  await state(nap, "succeeded");
  await nap.close();
  const { page } = await site.start([{ id: "late", tool: "fetch", args: { url: `http://${host}/` } }, sleep("then", 400, "late")]);
  await page.waitForSelector("#steps tr.retrying");
  const eta = () => page.locator("#eta").textContent();
  const known = /^ETA at least ~\d.*s from .*earlier runs/;
  await becomes(async () => known.test(await eta()), () => "how long a sleep takes is known, a page not");
  await state(page, "succeeded");
  await becomes(async () => (await eta()) === "", () => "what is over has no rest");
  await page.waitForSelector(".axis .gap");
  const width = (selector) => page.locator(selector).first().evaluate((element) => element.getBoundingClientRect().width);
  const ticks = () => page.locator(".axis .tick").allTextContents();
  const [narrow, whole] = [await width(".axis .gap"), (await width(".axis .track")) * 0.5];
  check(narrow < whole / 5, `six idle seconds are folded: ${narrow} of ${whole}`);
  await shoot(page, "acts-folded");
  const folded = await ticks();
  await page.uncheck("#fold-idle");
  check((await page.locator(".axis .gap").count()) === 0 && (await ticks()).join() !== folded.join(), "and can be unfolded");

  const all = await ticks();
  const track = await page.locator(".axis .track").boundingBox();
  const y = track.y + track.height / 2;
  await page.mouse.move(track.x + track.width * 0.75, y);
  await page.mouse.down();
  await page.mouse.move(track.x + track.width * 0.85, y, { steps: 3 });
  await page.mouse.move(track.x + track.width, y, { steps: 3 });
  await page.mouse.up();
  const part = await ticks();
  check(part[0] === all[3], `what was drawn over is shown: ${all} ${part}`);
  check((await page.locator(".lane.selected").count()) === 0, "and nothing is selected by that");
  await page.locator(".lanes").focus();
  await page.keyboard.press("ArrowLeft");
  check((await ticks()).join() !== part.join(), "the arrows move it");
  await page.keyboard.press("0");
  check((await ticks()).join() === all.join(), "all of it is there again");
  await page.keyboard.press("+");
  check((await ticks()).join() !== all.join() && (await page.locator("#time-all").isEnabled()), "keys do it, too");
  check((await serious(page)).length === 0, `axe: ${await serious(page)}`);
  await page.close();
}

await approved();
await denied();
await resolved();
await goneOnWith();
await retried();
await forked();
await submitted();
await timed();
site.stop();
busy.close();
console.log(told());
await browser.close();
