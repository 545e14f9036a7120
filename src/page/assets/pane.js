// The selected step: what it was to do, what came of it, why, and what can be done about it.

const part = (title, ...content) => [make("h3", {}, title), ...content];
const block = ({ text, cut }) => make("pre", { tabindex: 0 }, text + (cut ? "\n…" : ""));
const link = (number) => make("a", { href: `#${number}` }, step(number).id);

function showPane() {
  const pane = find("pane");
  const it = view.selected === null ? undefined : step(view.selected);
  find("columns").classList.toggle("with-pane", Boolean(it));
  pane.hidden = !it;
  if (!it) return pane.replaceChildren();
  // What the reader is writing is not taken away.
  if (pane.dataset.step === String(it.number) && pane.querySelector("details[open]")) return;
  pane.dataset.step = it.number;
  const top = pane.scrollTop;
  const after = run.steps.filter((other) => other.member && other.after.includes(it.number));
  const earlier = run.steps.filter((other) => other.id === it.id && other.number !== it.number);
  const names = (numbers) => make("div", { class: "links" }, ...numbers.map(link));
  pane.replaceChildren(
    make("h2", {}, make("span", { class: it.state }, make("span", { class: "sign" }, sign(it.state))), it.id,
      make("button", { type: "button", "aria-label": "Close", onclick: () => closePane() }, "✕")),
    make("p", {}, `${it.state} · ${it.tool} · since plan ${it.since}${spent(it) ? ` · ${money(spent(it))}` : ""}`),
    it.description.text ? make("p", {}, it.description.text) : "",
    it.outside ? make("p", { class: "error" }, `text from outside reaches it, from ${it.outside}`) : "",
    it.error && it.state !== "succeeded" ? make("p", { class: "error" }, it.error.text) : "",
    ...part("Why", make("ul", {}, ...it.why.map((reason) => make("li", {}, reason)))),
    ...(it.output ? part("Output", output(it)) : []),
    ...(it.arguments.text || it.when ? part("Input", it.when ? make("p", { class: "mono" }, `when ${it.when}`) : "", block(it.arguments)) : []),
    ...(it.state === "unapproved" ? given(it) : []),
    ...(it.after.length ? part("Needs", names(it.after)) : []),
    ...(after.length ? part("Needed by", names(after.map((other) => other.number))) : []),
    ...(earlier.length ? part("Also run as", names(earlier.map((other) => other.number))) : []),
    ...(it.calls.length ? part("Attempts", attempts(it)) : []),
    ...(it.log.length ? part("Log", log(it)) : []),
    actions(it));
  pane.scrollTop = top;
}

// Who is to say whether a step may act on something sees what that is.
const given = (it) => it.after.map(step).filter((earlier) => earlier.output).flatMap((earlier) => part(`From ${earlier.id}`, output(earlier)));

function output(it) {
  const holder = make("div", {}, block(it.output));
  if (it.output.cut && isLive) {
    const whole = make("button", { type: "button", onclick: async () => {
      const answer = await ask("GET", `/steps/${encodeURIComponent(it.id)}`);
      if (!answer) return;
      const text = typeof answer.output === "string" ? answer.output : JSON.stringify(answer.output, null, 2);
      holder.replaceChildren(block({ text, cut: false }));
    } }, "All of it");
    holder.append(make("div", { class: "ask" }, whole));
  }
  return holder;
}

function attempts(it) {
  const row = (call, index) => make("tr", {}, make("th", { scope: "row" }, String(index + 1)),
    make("td", {}, time(call.started_us)), make("td", {}, time(call.queued_us)),
    make("td", {}, time((call.ended_us ?? now()) - call.started_us)),
    make("td", {}, `${call.usage.input_tokens} / ${call.usage.output_tokens}`),
    make("td", {}, money(call.usage.micro_usd)));
  const heads = ["#", "start", "queued", "ran", "tokens in / out", "cost"];
  return make("table", {}, make("thead", {}, make("tr", {}, ...heads.map((head) => make("th", { scope: "col" }, head)))),
    make("tbody", {}, ...it.calls.map(row)));
}

const log = (it) => make("dl", { class: "log" },
  ...it.log.flatMap((line) => [make("dt", {}, time(line.at_us)), make("dd", {}, line.what)]));

// What a person can decide about a step: the word for it, what is asked of the server, and whether it lets the step fail.
const DECISIONS = {
  unapproved: [["Let it act", "approve"], ["Do not", "deny", undefined, "danger"]],
  unknown: [
    ["It took effect", "resolve", () => ({ succeeded: outcome() })], ["Run it again", "resolve", () => "retry"],
    ["It did not", "resolve", () => ({ failed: "it took no effect" }), "danger"],
  ],
};

// What a step gave back that took effect, if somebody has found out.
const outcome = () => JSON.parse(find("outcome").value.trim() || "null");
const outcomeForm = () => make("details", {}, make("summary", {}, "It took effect, and this is its output"),
  make("label", { for: "outcome" }, "JSON; without it, what comes next sees a null"),
  make("textarea", { rows: 3, id: "outcome", spellcheck: "false", placeholder: '{"receipt": 17}' }));

function decisions(it) {
  const buttons = make("div", { class: "ask" });
  for (const [word, path, body, kind] of (isLive && DECISIONS[it.state]) || []) {
    const decide = async () => {
      let said;
      try {
        said = body?.();
      } catch {
        return complain({ title: "the output is not JSON", detail: 'a text is written in quotes: "like this"' });
      }
      for (const button of buttons.children) button.disabled = true;
      const answer = await goOn(`/steps/${encodeURIComponent(it.id)}/${path}`, said);
      // What was written is told: the pane shows what becomes of it.
      if (answer) for (const form of find("pane").querySelectorAll("details[open]")) form.open = false;
      if (step(it.number).state !== it.state) return showPane();
      if (answer?.status === "waiting") buttons.replaceChildren(make("p", { role: "status" }, "Noted. The process that runs this has not answered yet."));
      else for (const button of buttons.children) button.disabled = Boolean(answer);
    };
    buttons.append(make("button", { type: "button", class: kind, onclick: decide }, word));
  }
  return isLive && it.state === "unknown" ? make("div", {}, outcomeForm(), buttons) : buttons;
}

function actions(it) {
  const buttons = make("div", { class: "ask" });
  buttons.append(make("button", { type: "button", onclick: (event) => copy(it, event.target) }, "Copy as plan"));
  const canFork = isLive && !isRunning() && it.member && it.calls.length > 0;
  return make("div", {}, decisions(it), buttons, canFork ? forkForm(it) : "");
}

function copy(it, button) {
  if (it.arguments.cut) return complain({ title: "this page does not have all of its arguments" });
  let args;
  try {
    args = JSON.parse(it.arguments.text);
  } catch {
    args = it.arguments.text || undefined;
  }
  const names = it.after.map((number) => step(number).id);
  const plan = { steps: [{ id: it.id, tool: it.tool, description: it.description.text || undefined, args, depends_on: names }] };
  navigator.clipboard.writeText(JSON.stringify(plan, null, 2)).then(
    () => say(button, "Copied"), () => complain({ title: "the browser does not let this page copy" }));
}

// A new run that does this step, and all below it, again: with other arguments, or without it.
function forkForm(it) {
  const set = make("textarea", { rows: 3, id: "fork-set", spellcheck: "false", placeholder: "query=other words" });
  const start = async (body) => {
    const answer = await ask("POST", "/fork", body);
    if (answer) location.assign(`/runs/${encodeURIComponent(answer.run)}`);
  };
  const changed = () => Object.fromEntries(set.value.split("\n").filter((line) => line.includes("=")).map((line) => {
    const at = line.indexOf("=");
    const value = line.slice(at + 1).trim();
    try {
      return [line.slice(0, at).trim(), JSON.parse(value)];
    } catch {
      return [line.slice(0, at).trim(), value];
    }
  }));
  return make("details", {}, make("summary", {}, "Fork from here"),
    make("label", { for: "fork-set" }, "Other arguments, KEY=VALUE on each line"), set,
    make("div", { class: "ask" },
      make("button", { type: "button", onclick: () => start({ from: it.id, set: changed() }) }, "Run it and all below it again"),
      make("button", { type: "button", class: "danger", onclick: () => start({ without: [it.id] }) }, "Run without it")));
}
