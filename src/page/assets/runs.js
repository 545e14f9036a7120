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
  for (const state of [...new Set(rows().map((row) => row.dataset.state))].sort()) {
    const option = document.createElement("option");
    option.value = option.textContent = state;
    find("filter").append(option);
  }
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

for (const time of document.querySelectorAll("time[data-unix-ms]")) {
  const at = new Date(Number(time.dataset.unixMs));
  time.dateTime = at.toISOString();
  time.textContent = at.toLocaleString();
}
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
