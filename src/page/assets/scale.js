// Where a moment is on the timeline: all of the run or the part that the reader looks at, idle time folded.

// A stretch in which nothing ran is folded if it is long, and a larger part of the run than this: to so much of the rest.
const LONG = 100_000;
const IDLE = 0.06;
const FOLDED = 0.03;
const isIdle = ([from, to]) => to - from > Math.max(LONG, IDLE * span);

// Up to where the timeline is drawn, the part of it that is shown if that is not all, and the stretches that are folded.
let span = 1;
let range = null;
let gaps = [];
let foldedTo = 0;

function spanNow() {
  const latest = Math.max(now(), run.head.elapsed_us, 1);
  if (!isRunning()) return latest;
  // Between two leaps there is room to the right.
  return latest <= span && latest > span / 2 ? span : latest * 1.4;
}

// Times change their places only here.
function setScale() {
  span = spanNow();
  gaps = view.foldsIdle ? idle().filter(isIdle) : [];
  foldedTo = FOLDED * gaps.reduce((rest, [from, to]) => rest - (to - from), span);
}

// The stretches before and between calls of tools.
function idle() {
  const calls = run.steps.flatMap((it) => it.calls).sort((a, b) => a.started_us - b.started_us);
  const found = [];
  let busyUntil = 0;
  for (const { started_us: started, ended_us: ended } of calls) {
    if (started > busyUntil) found.push([busyUntil, started]);
    busyUntil = Math.max(busyUntil, ended ?? Infinity);
  }
  return found;
}

// The moment as it would be if what is folded had not been so long; `at` is the way back.
function folded(moment) {
  let result = moment;
  for (const [from, to] of gaps) {
    const passed = Math.min(1, Math.max(0, (moment - from) / (to - from)));
    result -= passed * (to - from - foldedTo);
  }
  return result;
}

function unfolded(moment) {
  let cut = 0;
  for (const [from, to] of gaps) {
    const left = moment + cut - from;
    if (left <= 0) break;
    if (left < foldedTo) return from + (left / foldedTo) * (to - from);
    cut += to - from - foldedTo;
  }
  return moment + cut;
}

const ends = () => (range ?? [0, span]).map(folded);

// How far to the right a moment is, of 1.
function place(moment) {
  const [first, last] = ends();
  return (folded(moment) - first) / (last - first);
}

function momentAt(share) {
  const [first, last] = ends();
  return unfolded(first + share * (last - first));
}

// Nobody can tell moments apart that are nearer to each other.
const LEAST = 1000;

// Shows a part of the run, or all of it.
function showRange(from, to) {
  const [first, last] = [Math.max(0, Math.min(from, to)), Math.min(span, Math.max(from, to))];
  range = last - first >= span * 0.999 || !(last > first) ? null : [first, Math.max(last, first + LEAST)];
  drawTimeline();
}

// Nearer or further, around the selected step if it has run, and around what is in the middle if not.
function zoomTime(factor) {
  const calls = view.selected === null ? [] : step(view.selected).calls;
  const middle = folded(calls.length ? (calls[0].started_us + (calls.at(-1).ended_us ?? now())) / 2 : momentAt(0.5));
  const [first, last] = ends();
  const half = (last - first) / factor / 2;
  showRange(unfolded(Math.max(0, middle - half)), unfolded(middle + half));
}

function moveTime(part) {
  const [first, last] = ends();
  const by = Math.min(Math.max(part * (last - first), -first), folded(span) - last);
  if (range) showRange(unfolded(first + by), unfolded(last + by));
}

// The reader draws over the part that is to be shown.
function listenForRange() {
  const timeline = find("timeline");
  let begun = null;
  const moment = (event) => {
    const track = timeline.querySelector(".axis .track").getBoundingClientRect();
    return momentAt(Math.min(1, Math.max(0, (event.clientX - track.left) / track.width)));
  };
  const isDrawn = (event) => begun && Math.abs(event.clientX - begun.x) > 4;
  timeline.addEventListener("pointerdown", (event) => {
    if (event.button === 0 && event.target.closest(".track")) begun = { x: event.clientX, moment: moment(event) };
  });
  addEventListener("pointermove", (event) => {
    if (!isDrawn(event)) return;
    const chosen = timeline.querySelector(".chosen");
    const [from, to] = [begun.moment, moment(event)].sort((a, b) => a - b).map(place);
    chosen.hidden = false;
    chosen.style.left = `${100 * from}%`;
    chosen.style.width = `${100 * (to - from)}%`;
  });
  addEventListener("pointerup", (event) => {
    if (isDrawn(event)) {
      // What was drawn over is not chosen, too.
      timeline.addEventListener("click", (click) => click.stopPropagation(), { capture: true, once: true });
      showRange(begun.moment, moment(event));
    }
    begun = null;
  });
  addEventListener("pointercancel", () => {
    begun = null;
  });
  timeline.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -0.25, ArrowRight: 0.25 }[event.key];
    if (!by || !range) return;
    event.preventDefault();
    moveTime(by);
  });
  find("time-in").addEventListener("click", () => zoomTime(2));
  find("time-out").addEventListener("click", () => zoomTime(0.5));
  find("time-all").addEventListener("click", () => showRange(0, span));
  find("fold-idle").addEventListener("change", (event) => {
    view.foldsIdle = event.target.checked;
    drawTimeline();
  });
  find("time-tools").hidden = false;
}
