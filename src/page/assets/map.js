// A small map of a graph that is larger than its window: where the reader is, and where something runs or has failed.

const MAP = { width: 180, height: 110 };
const KINDS = {
  succeeded: "good", failed: "bad", unknown: "bad", running: "busy", expanded: "busy", retrying: "again",
  unapproved: "again", interrupted: "again",
};
let isMapWanted = true;

// The part of the graph that is to be seen, in the graph's own units.
function windowOfGraph() {
  const graph = find("graph");
  const factor = drawing().width / find("dag").getBoundingClientRect().width;
  return [graph.scrollLeft, graph.scrollTop, graph.clientWidth, graph.clientHeight].map((length) => length * factor);
}

// A map is of use only where there is something out of sight. Below the graph there is room for it, so that it hides nothing.
function showMap() {
  const [graph, map] = [find("graph"), find("map")];
  const { width, height } = drawing();
  find("dag").style.marginBottom = "";
  const isLarger = graph.scrollHeight > graph.clientHeight + 1 || graph.scrollWidth > graph.clientWidth + 1;
  map.toggleAttribute("hidden", !isMapWanted || !isLarger);
  if (map.hasAttribute("hidden")) return;
  const scale = Math.min(MAP.width / width, MAP.height / height);
  map.setAttribute("viewBox", `0 0 ${width} ${height}`);
  map.setAttribute("width", Math.ceil(width * scale));
  map.setAttribute("height", Math.ceil(height * scale));
  find("dag").style.marginBottom = `${Math.ceil(height * scale) + 16}px`;
  drawMap();
  moveMap();
}

// A line for each kind of state, however many steps there are.
function drawMap() {
  const map = find("map");
  if (map.hasAttribute("hidden")) return;
  const paths = {};
  for (const { step: number, x, y } of drawing().steps) {
    const kind = KINDS[step(number).state] ?? "idle";
    paths[kind] = `${paths[kind] ?? ""}M${x} ${y}h184v38h-184z`;
  }
  const frame = map.querySelector("rect") ?? draw("rect", {});
  map.replaceChildren(...Object.entries(paths).map(([kind, d]) => draw("path", { class: kind, d })), frame);
}

function moveMap() {
  const frame = find("map").querySelector("rect");
  if (!frame) return;
  const lengths = windowOfGraph();
  ["x", "y", "width", "height"].forEach((name, index) => frame.setAttribute(name, lengths[index]));
}

function toggleMap() {
  isMapWanted = !isMapWanted;
  showMap();
}

function listenForMap() {
  const [graph, map] = [find("graph"), find("map")];
  graph.addEventListener("scroll", moveMap, { passive: true });
  new ResizeObserver(showMap).observe(graph);
  const goTo = (event) => {
    const outer = map.getBoundingClientRect();
    const dag = find("dag").getBoundingClientRect();
    graph.scrollLeft = ((event.clientX - outer.left) / outer.width) * dag.width - graph.clientWidth / 2;
    graph.scrollTop = ((event.clientY - outer.top) / outer.height) * dag.height - graph.clientHeight / 2;
  };
  map.addEventListener("pointerdown", (event) => {
    map.setPointerCapture(event.pointerId);
    goTo(event);
  });
  map.addEventListener("pointermove", (event) => event.buttons === 1 && goTo(event));
}
