// What is shown, and what is known of it.

const isLive = document.body.dataset.mode === "live";
let run = JSON.parse(find("data").textContent);
// What the reader has chosen.
const view = { selected: null, search: "", state: "", unfold: false, foldsIdle: true, keys: kept("keys") !== "off" };

const step = (number) => run.steps[number];
const drawing = () => (view.unfold && run.unfolded) || run.layout;
const isOver = (state) => ["succeeded", "failed", "skipped", "superseded"].includes(state);
const isRunning = () => run.head.state === "running";

// The run's own clock. Between events it goes on as long as somebody drives the run.
function now() {
  const { elapsed_us: last, updated_unix_ms: updated } = run.head;
  return isRunning() ? last + Math.max(0, Date.now() - updated) * 1e3 : last;
}

// How long the run has taken by itself: that of which it is a fork does not count.
const elapsed = () => now() - run.head.begun_us;

// How long the rest should take, with what that rests on; nothing if that is nothing. See `Forecast` in the crate.
function eta() {
  const { rest } = run.head;
  if (!rest || !isRunning()) return "";
  const left = Math.max(rest.waiting_us, ...rest.paths.map(([due, after]) => Math.max(0, due - now()) + after));
  const isPartial = rest.is_partial || rest.paths.some(([due]) => due < now());
  // What would be written as nothing says nothing.
  return isPartial && left < 5e4 ? "" : `ETA ${isPartial ? "at least " : ""}~${rough(left)} from ${rest.basis}`;
}

// How long the tool of a step ran, up to now.
const busy = (it) => it.calls.reduce((sum, call) => sum + Math.max(0, (call.ended_us ?? now()) - call.started_us), 0);
const spent = (it) => it.calls.reduce((sum, call) => sum + call.usage.micro_usd, 0);
const tokens = (it) => it.calls.reduce((sum, { usage }) => sum + usage.input_tokens + usage.output_tokens, 0);
const queued = (it) => it.calls.reduce((sum, call) => sum + call.queued_us, 0);

function classes(it) {
  const marks = [[critical().has(it.number), "critical"], [!it.member, "past"], [it.outside, "outside"], [it.number === view.selected, "selected"]];
  return ["step", it.state, ...marks.filter(([is]) => is).map(([, name]) => name)].join(" ");
}

let criticalOf = null;
let criticalSteps = new Set();
function critical() {
  if (criticalOf !== run.critical) {
    criticalOf = run.critical;
    criticalSteps = new Set(run.critical);
  }
  return criticalSteps;
}

// The pairs of steps that follow each other on the critical path.
function joints() {
  return new Set(run.critical.slice(1).map((to, index) => `${run.critical[index]}>${to}`));
}

// Whether a step is among those that the reader looks for.
function isWanted(it) {
  if (view.state && it.state !== view.state) return false;
  if (!view.search) return true;
  const said = [it.id, it.tool, it.description.text, it.arguments.text, it.output?.text ?? "", it.error?.text ?? ""];
  return said.some((text) => text.toLowerCase().includes(view.search));
}

// Takes up what has changed, and says what that is: steps, those that were or are on the critical path, the drawing, or
// what is said of the plans.
function merge(update) {
  const onPath = update.critical ? [...run.critical, ...update.critical] : [];
  run.head = update.head;
  for (const it of update.steps) run.steps[it.number] = it;
  for (const name of ["plans", "critical", "faster"]) if (update[name]) run[name] = update[name];
  if (update.drawings) [run.layout, run.unfolded] = update.drawings;
  return { steps: update.steps, onPath, isRedrawn: Boolean(update.drawings), isReplanned: Boolean(update.plans || update.faster) };
}
