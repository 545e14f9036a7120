// The list of runs: looked through, kept up to date, and started from.

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
    find("filter").append(make("option", { value: state }, state));
  }
}

function newRow({ run, objective, started }) {
  const when = make("time", { "data-unix-ms": started * 1000 });
  tell(when);
  return make(
    "tr",
    {},
    make("td", { class: "state" }, make("span", { class: "sign" }), " "),
    make("th", { scope: "row" }, make("a", { href: `/runs/${encodeURIComponent(run)}` }, run)),
    make("td", { class: "objective" }, objective),
    make("td", {}, when),
    make("td", { class: "number" }),
  );
}

// Runs start, go on and end elsewhere, too.
async function refresh() {
  if (document.hidden) return;
  const answer = await fetch("/api/runs?limit=200").catch(() => null);
  if (!answer?.ok) return;
  const { runs } = await answer.json();
  if (runs.length > 0) find("none")?.remove();
  const known = new Map(rows().map((row) => [row.cells[1].textContent, row]));
  const body = document.querySelector("#runs tbody");
  for (const it of runs.reverse()) {
    let row = known.get(it.run);
    if (!row) body.prepend((row = newRow(it)));
    if (row.dataset.state === it.status && it.status !== "running") continue;
    row.dataset.state = it.status;
    row.className = `step ${it.status}`;
    say(row.cells[0].firstChild, sign(it.status));
    row.cells[0].lastChild.data = ` ${it.status}`;
    say(row.cells[4], time(it.ms * 1000));
  }
  offerStates();
  show();
}

async function start(event) {
  event.preventDefault();
  find("message").textContent = "";
  try {
    const answer = await fetch("/api/runs", {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-Plandag-Token": token },
      body: JSON.stringify({ source: find("source").value }),
    });
    const said = await answer.json();
    if (answer.ok) location.assign(`/runs/${encodeURIComponent(said.run)}`);
    else find("message").textContent = [said.title, said.detail].filter(Boolean).join(": ") + (said.code ? ` [${said.code}]` : "");
  } catch (error) {
    find("message").textContent = `the server does not answer: ${error.message}`;
  }
}

function tell(when) {
  const at = new Date(Number(when.dataset.unixMs));
  when.dateTime = at.toISOString();
  when.textContent = at.toLocaleString();
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
