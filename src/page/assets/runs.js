"use strict";
// The list of runs: looked through, kept up to date, and started from.

const find = (id) => document.getElementById(id);
const token = document.querySelector('meta[name="plandag-token"]').content;
const rows = () => [...document.querySelectorAll("#runs tbody tr")];

function show() {
  const search = find("search").value.trim().toLowerCase();
  const state = find("filter").value;
  let shown = 0;
  for (const row of rows()) {
    row.hidden = (state && row.dataset.state !== state) || !row.textContent.toLowerCase().includes(search);
    shown += row.hidden ? 0 : 1;
  }
  find("found").textContent = search || state ? `${shown} of ${rows().length} runs` : "";
}

function offerStates() {
  const known = [...find("filter").options].map((option) => option.value);
  for (const state of [...new Set(rows().map((row) => row.dataset.state))].sort()) {
    if (known.includes(state)) continue;
    const option = document.createElement("option");
    option.value = option.textContent = state;
    find("filter").append(option);
  }
}

const SIGNS = { succeeded: "✓", failed: "✗", running: "▸", interrupted: "■", stopped: "■", undecided: "○" };

function newRow({ run, objective, started }) {
  const row = document.createElement("tr");
  const [, name, what, when, took] = ["td", "th", "td", "td", "td"].map((tag) => row.appendChild(document.createElement(tag)));
  row.cells[0].className = "state";
  row.cells[0].append(Object.assign(document.createElement("span"), { className: "sign" }), "");
  name.scope = "row";
  name.append(Object.assign(document.createElement("a"), { href: `/runs/${encodeURIComponent(run)}`, textContent: run }));
  Object.assign(what, { className: "objective", textContent: objective });
  when.append(document.createElement("time"));
  when.firstChild.dataset.unixMs = started * 1000;
  took.className = "number";
  tell(when.firstChild);
  return row;
}

// Runs start, go on and end elsewhere, too.
async function refresh() {
  if (document.hidden) return;
  const answer = await fetch("/api/runs?limit=200").catch(() => null);
  if (!answer?.ok) return;
  const { runs } = await answer.json();
  const known = new Map(rows().map((row) => [row.cells[1].textContent, row]));
  const body = document.querySelector("#runs tbody");
  for (const it of runs.reverse()) {
    let row = known.get(it.run);
    if (!row) body.prepend((row = newRow(it)));
    if (row.dataset.state === it.status && it.status !== "running") continue;
    row.dataset.state = it.status;
    row.className = `step ${it.status}`;
    row.cells[0].firstChild.textContent = SIGNS[it.status] ?? "○";
    row.cells[0].lastChild.data = ` ${it.status}`;
    row.cells[4].textContent = it.ms < 1000 ? `${it.ms}ms` : `${(it.ms / 1000).toFixed(1)}s`;
  }
  offerStates();
  show();
}

// A plan if it is JSON, else an objective.
function asked(source) {
  try {
    const plan = JSON.parse(source);
    if (typeof plan === "object" && plan !== null) return { plan };
  } catch {
    // It is an objective.
  }
  return { objective: source };
}

async function start(event) {
  event.preventDefault();
  find("message").textContent = "";
  try {
    const answer = await fetch("/api/runs", {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-Plandag-Token": token },
      body: JSON.stringify(asked(find("source").value.trim())),
    });
    const said = await answer.json();
    if (answer.ok) location.assign(`/runs/${encodeURIComponent(said.run)}`);
    else find("message").textContent = [said.title, said.detail].filter(Boolean).join(": ") + (said.code ? ` [${said.code}]` : "");
  } catch (error) {
    find("message").textContent = `the server does not answer: ${error.message}`;
  }
}

function tell(time) {
  const at = new Date(Number(time.dataset.unixMs));
  time.dateTime = at.toISOString();
  time.textContent = at.toLocaleString();
}

document.querySelectorAll("time[data-unix-ms]").forEach(tell);
setInterval(refresh, 2000);
document.addEventListener("visibilitychange", refresh);
find("toolbar").hidden = false;
offerStates();
find("search").addEventListener("input", show);
find("filter").addEventListener("change", show);
find("new").addEventListener("submit", start);
addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.target.closest("input, textarea, select")) return;
  event.preventDefault();
  find("search").focus();
});
