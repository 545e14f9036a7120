// Everything together: what is shown when, what the reader chooses, and the keys.

function showHead() {
  const { head } = run;
  const badge = find("state");
  badge.className = `badge ${head.state}`;
  say(badge.firstChild, sign(head.state));
  badge.lastChild.data = ` ${head.state}`;
  say(find("elapsed"), time(elapsed()));
  say(find("eta"), eta());
  say(find("done"), `${head.done} of ${counted(head.total, "step")}`);
  const used = head.usage.input_tokens + head.usage.output_tokens;
  find("steps").classList.toggle("free", used === 0 && head.usage.micro_usd === 0);
  const of = (amount, limit, word) => (limit === null ? (amount ? word(amount) : "") : `${word(amount)} of ${word(limit)}`);
  say(find("tokens"), of(used, head.limit_tokens, (count) => String(count)) && `${of(used, head.limit_tokens, (count) => String(count))} tokens`);
  say(find("money"), of(head.usage.micro_usd, head.limit_micro_usd, money));
  say(find("problem"), head.problem);
  find("answer-section").hidden = !head.answer;
  say(find("answer"), head.answer ? head.answer.text + (head.answer.cut ? "\n…" : "") : "");
  showProgress();
  if (isLive) {
    showCancel();
    find("resume").hidden = !["stopped", "interrupted"].includes(head.state);
    find("retry").hidden = isRunning() || head.state === "succeeded" || head.total === 0;
  }
  showTitle(head.state);
}

function showTitle(state) {
  document.title = `${sign(state)} ${run.head.objective || run.head.run} · plandag`;
}

// A strip of all steps by state.
const STRIP = [["succeeded", "--bar-good"], ["failed", "--bar-bad"], ["unknown", "--bar-bad"], ["running", "--bar-busy"], ["expanded", "--bar-busy"], ["retrying", "--hatch"], ["unapproved", "--hatch"]];
function showProgress() {
  const parts = STRIP.flatMap(([state, colour]) => {
    const count = run.head.counts.find((entry) => entry.state === state)?.steps ?? 0;
    if (count === 0) return [];
    const part = make("span", { title: `${count} ${state}` });
    part.style.background = `var(${colour})`;
    part.style.flex = String(count);
    return [part];
  });
  const over = STRIP.reduce((sum, [state]) => sum + (run.head.counts.find((entry) => entry.state === state)?.steps ?? 0), 0);
  const rest = make("span");
  rest.style.flex = String(Math.max(0, run.head.total - over));
  find("progress").replaceChildren(...parts, rest);
}

function showFilter() {
  const states = [...new Set(run.steps.map((it) => it.state))].sort();
  const options = ["", ...states].map((state) => make("option", { value: state, selected: state === view.state }, state || "all"));
  const known = [...find("filter").options].map((option) => option.value).join();
  if (known !== ["", ...states].join()) find("filter").replaceChildren(...options);
  const wanted = run.steps.filter(isWanted).length;
  say(find("found"), view.search || view.state ? `${wanted} of ${counted(run.steps.length, "step")}` : "");
}

function showPlans() {
  find("plans-section").hidden = run.plans.length === 0;
  const list = (kind, mark, ids) => ids.map((id) => make("li", { class: kind }, `${mark} ${id}`));
  find("plans").replaceChildren(...run.plans.map((plan) => {
    const size = plan.added.length + plan.again.length + plan.kept;
    const facts = [counted(size, "step"), plan.because, `at ${time(plan.at_us)}`];
    if (plan.revision > 1) facts.splice(2, 0, `${plan.kept} kept`);
    if (plan.usage.micro_usd) facts.push(money(plan.usage.micro_usd));
    const changes = plan.revision > 1
      ? make("ul", {}, ...list("dropped", "−", plan.dropped), ...list("added", "+", plan.added), ...list("again", "~", plan.again))
      : "";
    return make("div", {}, make("p", {}, make("b", {}, `Plan ${plan.revision}`), ` ${facts.join(" · ")}`), changes);
  }));
}

function showFaster() {
  find("faster-section").hidden = run.faster.length === 0;
  // What is in the plan, or else what came last.
  const inPlanLast = [...run.steps].sort((one, other) => one.member - other.member);
  const numbers = new Map(inPlanLast.map((it) => [it.id, it.number]));
  const row = (it) => make("tr", {},
    make("th", { scope: "row" }, it.step !== null && numbers.has(it.step) ? make("a", { href: `#${numbers.get(it.step)}` }, it.change) : it.change),
    make("td", { class: "number" }, it.saves_us ? time(it.saves_us) : "nothing"),
    make("td", {}, it.unnecessary ? "probably unnecessary" : ""));
  const head = make("tr", {}, make("th", { scope: "col" }, "With this change"), make("th", { scope: "col", class: "number" }, "saves"), make("th", { scope: "col" }, make("span", { class: "hidden" }, "Remark")));
  const { critical_us: critical, bound_us: bound } = run.head;
  find("faster").replaceChildren(
    make("p", {}, `Critical path ${time(critical)}; no schedule on ${counted(run.head.max_parallel, "slot")} could go below ${time(bound)}. This run took ${time(elapsed())}.`),
    make("table", {}, make("thead", {}, head), make("tbody", {}, ...run.faster.map(row))));
}

// All steps anew: the reader looks for others, or the critical path is another one.
function showSteps() {
  const folded = new Map(drawing().steps.map((drawn) => [drawn.step, drawn.folded]));
  for (const it of run.steps) {
    showRow(it);
    showBox(it, folded.get(it.number) ?? 0);
    const lane = lanes.get(it.number)?.lane;
    if (lane) lane.className = `lane ${classes(it)}${isWanted(it) ? "" : " off"}`;
  }
  showEdges();
  showFilter();
}

// Of a large run most stays as it is: only what has changed is touched.
function showUpdate({ steps, onPath, isRedrawn, isReplanned }) {
  announce(steps);
  find("unfold").parentElement.hidden = !run.unfolded;
  if (isRedrawn) drawGraph();
  else drawMap();
  const changed = [...new Set([...steps.map((it) => it.number), ...onPath])].map(step);
  const folded = new Map(drawing().steps.map((drawn) => [drawn.step, drawn.folded]));
  for (const it of changed) {
    showRow(it);
    showBox(it, folded.get(it.number) ?? 0);
  }
  if (onPath.length > 0) showEdges();
  if (now() > span) drawTimeline();
  else showLanes(changed);
  showHead();
  showFilter();
  if (isReplanned) {
    showPlans();
    showFaster();
  }
  showTotals();
  if (steps.some((it) => it.number === view.selected)) showPane();
}

// Scrolls what holds an element so far that it is to be seen, and nothing else: the page stays where the reader is.
function reveal(element, holder) {
  const inner = element.getBoundingClientRect();
  const outer = holder.getBoundingClientRect();
  if (inner.top < outer.top || inner.bottom > outer.bottom) holder.scrollTop += (inner.top + inner.bottom - outer.top - outer.bottom) / 2;
  if (holder.id === "graph" && (inner.left < outer.left || inner.right > outer.right)) holder.scrollLeft += (inner.left + inner.right - outer.left - outer.right) / 2;
}

// Only what is chosen changes: this has to be quick however many steps there are.
function select(number) {
  const old = view.selected;
  view.selected = number !== null && run.steps[number] ? number : null;
  for (const [changed, is] of [[old, false], [view.selected, true]]) {
    for (const element of [boxes.get(changed), rows.get(changed), lanes.get(changed)?.lane]) element?.classList.toggle("selected", is);
    boxes.get(changed)?.setAttribute("aria-pressed", is);
  }
  const box = boxes.get(view.selected);
  if (box) {
    document.querySelector('#boxes [tabindex="0"]')?.setAttribute("tabindex", -1);
    box.setAttribute("tabindex", 0);
    reveal(box, find("graph"));
  }
  const lane = lanes.get(view.selected)?.lane;
  if (lane) reveal(lane, lane.parentElement);
  const row = rows.get(view.selected);
  if (row) reveal(row, row.closest(".scroll"));
  showEdges();
  showPane();
  const hash = view.selected === null ? "" : `#${view.selected}`;
  if (location.hash !== hash) history.replaceState(null, "", location.pathname + location.search + hash);
}

// Whoever closes it is back at the step that it was about.
function closePane() {
  const box = boxes.get(view.selected);
  select(null);
  box?.focus({ preventScroll: true });
}

function selectByHash() {
  const number = Number.parseInt(location.hash.slice(1), 10);
  select(Number.isNaN(number) ? null : number);
}

function move(by) {
  const order = inOrder();
  if (order.length === 0) return;
  const at = order.indexOf(view.selected);
  const next = at < 0 ? (by > 0 ? 0 : order.length - 1) : Math.min(order.length - 1, Math.max(0, at + by));
  select(order[next]);
  boxes.get(order[next])?.focus({ preventScroll: true });
}

const go = (id) => {
  find(id).scrollIntoView({ block: "start" });
  find(id).parentElement.querySelector('[tabindex="0"]')?.focus({ preventScroll: true });
};

const toggle = (id) => find(id).click();

const KEYS = [
  ["j", "next step", () => move(1)],
  ["k", "previous step", () => move(-1)],
  ["g", "graph", () => go("graph-title")],
  ["t", "timeline", () => go("timeline-title")],
  ["s", "table of steps", () => go("table-title")],
  ["c", "only the critical path", () => toggle("only-critical")],
  ["u", "unfold what finished steps became", () => !find("unfold").parentElement.hidden && toggle("unfold")],
  ["+", "timeline: nearer, around the selected step", () => zoomTime(2)],
  ["-", "timeline: more of it", () => zoomTime(0.5)],
  ["0", "timeline: all of it", () => showRange(0, span)],
  ["m", "small map of a large graph", () => toggleMap()],
  ["/", "search", () => find("search").focus()],
  ["?", "these keys", () => find("help").showModal()],
  ["Escape", "close, and look for nothing", () => leave()],
];

function leave() {
  if (view.selected !== null) return closePane();
  find("search").value = find("filter").value = view.search = view.state = "";
  showSteps();
}

function listen() {
  const help = find("help");
  help.append(make("table", {}, make("tbody", {}, ...KEYS.map(([key, what]) =>
    make("tr", {}, make("th", { scope: "row" }, make("kbd", {}, key === "Escape" ? "Esc" : key)), make("td", {}, what))))),
  make("form", { method: "dialog" }, make("label", {}, make("input", { type: "checkbox", id: "use-keys", checked: view.keys }), " use these keys"),
    make("button", {}, "Close")));
  find("use-keys").addEventListener("change", (event) => {
    view.keys = event.target.checked;
    keep("keys", view.keys ? "" : "off");
  });
  find("help-button").addEventListener("click", () => help.showModal());
  find("search").addEventListener("input", (event) => {
    view.search = event.target.value.trim().toLowerCase();
    showSteps();
  });
  find("search").addEventListener("keydown", (event) => {
    if (event.key === "Escape") event.target.blur();
    if (event.key === "Enter") move(1);
  });
  find("filter").addEventListener("change", (event) => {
    view.state = event.target.value;
    showSteps();
  });
  find("only-critical").addEventListener("change", (event) => document.body.classList.toggle("only-critical", event.target.checked));
  find("unfold").addEventListener("change", (event) => {
    view.unfold = event.target.checked;
    drawGraph();
  });
  listenForRange();
  listenForMap();
  addEventListener("hashchange", selectByHash);
  addEventListener("keydown", (event) => {
    const isWriting = event.target.closest("input, textarea, select, dialog");
    if (isWriting || event.ctrlKey || event.metaKey || event.altKey) return;
    if ((event.key === "Enter" || event.key === " ") && event.target.closest("#boxes [data-step]")) {
      event.preventDefault();
      return select(Number(event.target.closest("[data-step]").dataset.step));
    }
    const known = KEYS.find(([key]) => key === event.key);
    if (!known || (!view.keys && event.key !== "Escape")) return;
    event.preventDefault();
    known[2]();
  });
  if (isLive) {
    find("cancel").addEventListener("click", cancel);
    find("resume").addEventListener("click", () => goOn("/resume"));
    find("retry").addEventListener("click", retry);
  }
}

function begin() {
  find("toolbar").hidden = false;
  adoptGraph();
  adoptTable();
  listen();
  for (const it of run.steps) told.set(it.number, it.state);
  showHead();
  showFilter();
  showPlans();
  showFaster();
  drawTimeline();
  selectByHash();
  if (isLive) follow();
  setInterval(() => {
    if (!isRunning()) return;
    say(find("elapsed"), time(elapsed()));
    say(find("eta"), eta());
    tick();
  }, 250);
}

// What is in the page is painted before any of this runs.
requestAnimationFrame(() => setTimeout(begin));
