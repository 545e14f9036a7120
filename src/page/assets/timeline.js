// The timeline: a lane for each step that was ready or ran. Times are shares of a span that grows in leaps, so that what
// is over stays where it is between them.

const lanes = new Map();
let running = [];

// Styles are set from here rather than in attributes: the page allows no others. What is out of sight has no bar.
function bar(kind, from, to, title) {
  const [left, right] = [place(from), place(to)].map((share) => Math.min(1, Math.max(0, share)));
  if (place(to) < 0 || place(from) > 1) return null;
  const element = make("span", { class: kind, title });
  element.style.left = `${100 * left}%`;
  element.style.width = `${100 * (right - left)}%`;
  return element;
}

function drawTimeline() {
  const old = find("timeline").querySelector(".lanes");
  const wasAt = [old?.scrollTop ?? 0, document.activeElement === old];
  setScale();
  lanes.clear();
  running = [];
  const shown = started();
  const list = make("div", { class: "lanes", role: "region", tabindex: 0, "aria-label": "Timeline, scrollable; the table says the same" }, axis());
  for (const it of shown) list.append(newLane(it));
  if (shown.length === 0) list.append(make("p", { class: "legend" }, "Nothing has run yet."));
  find("timeline").replaceChildren(legend(shown), list, totals());
  list.scrollTop = wasAt[0];
  if (wasAt[1]) list.focus({ preventScroll: true });
  find("time-all").disabled = find("time-out").disabled = range === null;
  find("fold-idle").parentElement.hidden = !idle().some(isIdle);
  showTotals();
}

// What moments there are, and what of the time is folded.
function axis() {
  const track = make("div", { class: "track" });
  for (const share of [0, 0.25, 0.5, 0.75]) {
    const tick = make("span", { class: "tick" }, time(momentAt(share)));
    tick.style.left = `${100 * share}%`;
    track.append(tick);
  }
  track.append(...gaps.map(([from, to]) => bar("gap", from, to, `nothing ran for ${time(to - from)}`)).filter(Boolean));
  track.append(make("span", { class: "chosen", hidden: true }));
  return make("div", { class: "axis", "aria-hidden": "true" }, make("span", { class: "name" }), track);
}

// The steps that have been started, in that order.
const started = () => run.steps.filter((it) => it.calls.length > 0)
  .sort((a, b) => a.calls[0].started_us - b.calls[0].started_us || a.number - b.number);

// Lanes of steps that have changed; whatever starts now is below all others.
function showLanes(changed) {
  const list = find("timeline").querySelector(".lanes");
  for (const it of changed) {
    if (lanes.has(it.number)) showLane(it);
    else if (it.calls.length > 0) list.append(newLane(it));
  }
  if (lanes.size > 0) list.querySelector("p")?.remove();
  find("timeline").firstChild.replaceWith(legend(started()));
}

function legend(shown) {
  const has = (test) => shown.some((it) => it.calls.some(test));
  const entry = (kind, what) => make("span", {}, make("i", { class: kind }), what);
  return make("div", { class: "legend", "aria-hidden": "true" },
    has((call) => call.queued_us > span / 500) ? entry("queue", "ready, waits to be started") : null,
    entry("call", "runs"),
    has((call) => call.error) ? entry("call failed", "failed try") : null,
    shown.some((it) => it.calls.length > 1) ? entry("pause", "waits to be tried again") : null,
    entry("critical", "critical path"),
    run.plans.length > 1 ? entry("plan", "another plan") : null,
    gaps.length > 0 ? entry("gap", `nothing runs, ${time(gaps.reduce((sum, [from, to]) => sum + to - from, 0))} folded`) : null);
}

function newLane(it) {
  const track = make("div", { class: "track" });
  const lane = make("div", { class: "lane", "data-step": it.number, onclick: () => select(Number(lane.dataset.step)) },
    make("span", { class: "name", title: it.id }, it.id), track);
  lanes.set(it.number, { lane, track });
  showLane(it);
  return lane;
}

function showLane(it) {
  const known = lanes.get(it.number);
  if (!known) return;
  const { lane, track } = known;
  running = running.filter((call) => call.number !== it.number);
  lane.className = `lane ${classes(it)}${isWanted(it) ? "" : " off"}`;
  const bars = [];
  const took = make("span", { class: "took" }, time(busy(it)));
  let free = 0;
  for (const call of it.calls) {
    const ready = Math.max(0, call.started_us - call.queued_us);
    if (free > 0 && ready > free) bars.push(bar("pause", free, ready, `waited ${time(ready - free)} to be tried again`));
    if (call.queued_us > span / 500) bars.push(bar("queue", ready, call.started_us, `queued ${time(call.queued_us)}`));
    const end = call.ended_us ?? now();
    const kind = call.ended_us === null ? "call now" : call.error ? "call failed" : "call";
    const what = call.error ? `failed after ${time(end - call.started_us)}: ${call.error.text}` : time(end - call.started_us);
    const element = bar(kind, call.started_us, end, what);
    if (element && call.ended_us === null) running.push({ number: it.number, started: call.started_us, element, took });
    bars.push(element);
    free = end;
  }
  if (it.retry_at_us) bars.push(bar("pause", free, it.retry_at_us, "waits to be tried again"));
  const last = Math.max(free, it.retry_at_us ?? 0);
  took.hidden = place(last) < 0 || place(it.calls[0].started_us) > 1;
  took.style.left = `${100 * Math.min(1, Math.max(0, place(last)))}%`;
  for (const plan of run.plans.slice(1)) bars.push(bar("plan", plan.at_us, plan.at_us, `plan ${plan.revision}`));
  track.replaceChildren(...bars.filter(Boolean), took);
}

// One step at a time, and as it was: one above the other, on the same scale.
function totals() {
  const lane = (id, kind, name) =>
    make("div", { class: `total ${kind}` }, make("span", { class: "name" }, name),
      make("div", { class: "track" }, make("span", { class: "call", id }), make("span", { class: "took", id: `${id}-time` })));
  return make("div", { class: "totals" }, lane("one-at-a-time", "", "one at a time, up to"), lane("as-a-dag", "dag", "as a DAG"));
}

function showTotals() {
  const took = elapsed();
  // What still runs is part of it.
  const work = isRunning() ? run.steps.reduce((sum, it) => sum + busy(it), 0) : run.head.work_us;
  const longest = Math.max(took, work, 1);
  const rows = [["one-at-a-time", work, ""], ["as-a-dag", took, work > took * 1.05 ? `, ${(work / took).toFixed(1)}×` : ""]];
  for (const [id, micros, more] of rows) {
    if (!find(id)) return;
    find(id).style.left = 0;
    find(id).style.width = `${(100 * micros) / longest}%`;
    find(`${id}-time`).style.left = `${(100 * micros) / longest}%`;
    say(find(`${id}-time`), time(micros) + more);
  }
}

// What goes on grows.
function tick() {
  if (now() > span) {
    drawTimeline();
    return;
  }
  const end = Math.min(1, place(now()));
  for (const { number, started, element, took } of running) {
    element.style.width = `${100 * Math.max(0, end - Math.max(0, place(started)))}%`;
    took.style.left = `${100 * Math.max(0, end)}%`;
    for (const shown of [took, rows.get(number).cells[6]]) say(shown, time(busy(step(number))));
  }
  showTotals();
}
