// The graph: boxes and lines where the server has put them. Boxes that stay keep their elements, so they can move.

const boxes = new Map();
let edges = [];
let zoom = null;

// Takes over what is in the page already.
function adoptGraph() {
  for (const element of document.querySelectorAll("#boxes > g")) boxes.set(Number(element.dataset.step), element);
  edges = [...document.querySelectorAll("#edges > path")].map((element) => ({
    from: Number(element.dataset.from), to: Number(element.dataset.to), element,
  }));
  find("dag").addEventListener("click", (event) => {
    const box = event.target.closest("[data-step]");
    if (box) select(Number(box.dataset.step));
  });
  find("zoom-in").addEventListener("click", () => zoomTo((zoom ?? fitZoom()) * 1.25));
  find("zoom-out").addEventListener("click", () => zoomTo((zoom ?? fitZoom()) / 1.25));
  find("zoom-fit").addEventListener("click", () => zoomTo(null));
  find("full").addEventListener("click", () =>
    document.fullscreenElement ? document.exitFullscreen() : find("graph").parentElement.requestFullscreen());
  find("graph-tools").hidden = false;
  // What would be too small to read is shown larger, and scrolled.
  if (fitZoom() < 0.5) zoomTo(0.7);
}

const fitZoom = () => Math.min(1, (find("graph").clientWidth - 2) / drawing().width);

// Without a number, the graph is as wide as there is room.
function zoomTo(factor) {
  zoom = factor && Math.min(3, Math.max(0.05, factor));
  const dag = find("dag");
  dag.classList.toggle("sized", zoom !== null);
  dag.setAttribute("width", Math.round(drawing().width * (zoom ?? 1)));
  dag.setAttribute("height", Math.round(drawing().height * (zoom ?? 1)));
  showMap();
}

function newBox(drawn) {
  return draw("g", { "data-step": drawn.step, role: "button", tabindex: -1, "aria-pressed": "false" },
    draw("rect", { class: "box", width: 184, height: 38, rx: 6 }),
    draw("text", { class: "sign", x: 11, y: 16 }), " ",
    draw("text", { class: "id", x: 28, y: 16 }), " ",
    draw("text", { class: "detail", x: 28, y: 30 }));
}

function drawGraph() {
  const { width, height, steps, edges: lines } = drawing();
  const dag = find("dag");
  dag.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const inside = new Set(steps.map((drawn) => drawn.step));
  const kept = new Map([...boxes].map(([number, element]) => [step(number).id, element]));
  for (const [number, element] of boxes) if (!inside.has(number)) boxes.delete(number) && element.remove();
  for (const drawn of steps) {
    // A step that is run anew stands where it stood.
    let box = boxes.get(drawn.step) ?? kept.get(step(drawn.step).id);
    if (!box) box = newBox(drawn);
    else box.classList.add("moves");
    box.dataset.step = drawn.step;
    boxes.set(drawn.step, box);
    box.setAttribute("transform", `translate(${drawn.x} ${drawn.y})`);
    find("boxes").append(box);
  }
  edges = lines.map(({ from, to, path }) => ({
    from, to, element: draw("path", { class: "edge", "data-from": from, "data-to": to, d: path }),
  }));
  find("edges").replaceChildren(...edges.map(({ element }) => element));
  zoomTo(zoom);
  for (const drawn of steps) showBox(step(drawn.step), drawn.folded);
  showEdges();
}

function showBox(it, folded = drawing().steps.find((drawn) => drawn.step === it.number)?.folded ?? 0) {
  const box = boxes.get(it.number);
  if (!box) return;
  const moves = box.classList.contains("moves") ? " moves" : "";
  box.setAttribute("class", classes(it) + moves + (isWanted(it) ? "" : " off"));
  const inside = folded ? ` · ${folded} inside` : "";
  const id = fitting(it.id, 21);
  const detail = fitting(`${it.tool} · ${it.state === "succeeded" ? time(busy(it)) : it.state}${inside}`, 26);
  box.querySelector(".hatching")?.remove();
  if (it.outside) {
    const hatching = draw("rect", { class: "hatching", width: 184, height: 38, rx: 6, fill: "url(#hatching)" });
    box.querySelector(".box").after(hatching);
    find("outside").hidden = false;
  }
  box.setAttribute("aria-label", spoken(it, id, detail));
  say(box.querySelector(".sign"), sign(it.state));
  say(box.querySelector(".id"), id);
  say(box.querySelector(".detail"), detail);
}

// What is read out of a box: what is to be seen in it, then the step's state, what it still waits for or came after, and
// its whole name if there is no room for that.
function spoken(it, id, detail) {
  const waits = it.state === "waiting";
  const before = it.after.map(step).filter((earlier) => !waits || !isOver(earlier.state)).map((earlier) => earlier.id);
  const said = [`${id} ${detail}`];
  if (!detail.includes(it.state)) said.push(it.state);
  if (before.length) said.push(`${waits ? "waits for" : "after"} ${before.slice(0, 8).join(", ")}${before.length > 8 ? ` and ${before.length - 8} more` : ""}`);
  if (it.outside) said.push("text from outside reaches it");
  if (id !== it.id) said.push(`in full ${it.id}`);
  return said.join(", ");
}

function showEdges() {
  const pairs = joints();
  for (const { from, to, element } of edges) {
    const marks = [[pairs.has(`${from}>${to}`), " critical"], [view.selected === from || view.selected === to, " near"]];
    const wanted = "edge" + marks.filter(([is]) => is).map(([, name]) => name).join("");
    if (element.getAttribute("class") !== wanted) element.setAttribute("class", wanted);
  }
}

// The steps from the left to the right: no step is before what it depends on.
const inOrder = () => drawing().steps.map((drawn) => drawn.step).filter((number) => isWanted(step(number)));
