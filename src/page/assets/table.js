// The table: everything that the pictures say, in words.

const rows = new Map();

function adoptTable() {
  for (const row of document.querySelectorAll("#steps tbody tr")) rows.set(Number(row.dataset.step), row);
  find("steps").tBodies[0].addEventListener("click", (event) => {
    const row = event.target.closest("tr");
    if (row && !event.target.closest("a")) select(Number(row.dataset.step));
  });
}

function newRow(it) {
  const cell = (kind) => make("td", kind ? { class: kind } : {});
  const row = make("tr", { "data-step": it.number },
    make("td", { class: "state" }, make("span", { class: "sign" }), document.createTextNode("")),
    make("th", { scope: "row" }, make("a", { href: `#${it.number}` })), cell(), cell("after"),
    ...Array.from({ length: 7 }, () => cell("number")), cell("result"));
  rows.set(it.number, row);
  find("steps").tBodies[0].append(row);
  return row;
}

function showRow(it) {
  const row = rows.get(it.number) ?? newRow(it);
  row.className = classes(it);
  row.hidden = !isWanted(it);
  const has = it.calls.length > 0;
  const [state, id, tool, after, start, wait, ran, tries, used, cost, plan, result] = row.cells;
  say(state.firstChild, sign(it.state));
  state.lastChild.data = ` ${it.state}`;
  say(id.firstChild, it.id);
  say(tool, it.tool);
  say(after, fitting(it.after.map((number) => step(number).id).join(", "), 90));
  say(start, has ? time(it.calls[0].started_us) : "");
  say(wait, queued(it) ? time(queued(it)) : "");
  say(ran, has ? time(busy(it)) : "");
  say(tries, has ? String(it.calls.length) : "");
  say(used, tokens(it) ? String(tokens(it)) : "");
  say(cost, spent(it) ? money(spent(it)) : "");
  say(plan, String(it.since));
  say(result, fitting(it.output?.text ?? it.error?.text ?? it.why.at(-1) ?? "", 90));
}
